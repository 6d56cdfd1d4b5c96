"""Consoles in processes of their own: websockify's server, which forks one per connection.

For a proxy that sends ``/websockify`` here and everything else to the site. The displays come
from the agent, through its socket in ``STATE_DIR``.
"""

import multiprocessing
import os
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from websockify.websockifyserver import WebSockifyServer

from kvmweb.console import audit, clerk, process
from kvmweb.console.consoles import MAXIMUM
from kvmweb.console.dial import dial
from kvmweb.console.handler import ConsoleHandler


class ConsoleServer(WebSockifyServer):  # type: ignore[misc]  # websockify has no types
    """Only starts processes; each has a handler and a console of its own."""

    token_plugin = auth_plugin = heartbeat = None
    dial = staticmethod(dial)

    def poll(self) -> None:
        """Called by websockify before it accepts: not while too many are open."""
        while len(multiprocessing.active_children()) >= MAXIMUM:
            time.sleep(0.1)

    def top_new_client(self, startsock: Any, address: Any) -> None:
        """In the new process."""
        try:
            super().top_new_client(startsock, address)
        finally:
            clerk.dismiss()
            audit.forget()


class Command(BaseCommand):
    help = "Serve /websockify alone, each console in a process of its own."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8001", help="address:port")

    def handle(self, *args: Any, bind: str, **options: Any) -> None:
        host, _colon, port = bind.rpartition(":")
        if not port.isdigit():
            raise CommandError(f"{bind} is not address:port. An example: 127.0.0.1:8001")
        process.begin()
        connections.close_all()  # a forked process must not share one
        server = ConsoleServer(
            ConsoleHandler, listen_host=host.strip("[]"), listen_port=int(port), run_once=False
        )
        self.stdout.write(f"kvmweb's consoles at {bind} (process {os.getpid()}, Ctrl+C ends it)")
        self.stdout.flush()
        server.start_server()
