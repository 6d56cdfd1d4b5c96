"""The whole site in one process: pages, live updates, consoles and the agent."""

import asyncio
import signal
from typing import Any

import uvicorn
import uvloop
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from kvmweb.agent.agent import Agent, AlreadyRunning
from kvmweb.console import process
from kvmweb.console.handover import serve_handover
from kvmweb.console.protocol import ConsoleProtocol
from kvmweb.models.live import use_loop


class Command(BaseCommand):
    help = "Serve the site: pages, live updates, consoles and the agent in one process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=settings.BIND, help="address:port")
        parser.add_argument("--no-agent", action="store_true", help="where agents run apart")

    def handle(self, *args: Any, bind: str, no_agent: bool, **options: Any) -> None:
        call_command("prepare")
        process.begin()
        host, _colon, port = bind.rpartition(":")
        if not port.isdigit():
            raise CommandError(f"{bind} is not address:port. An example: 127.0.0.1:8000")
        server = uvicorn.Server(
            uvicorn.Config(
                "kvmweb.asgi:application",
                host=host.strip("[]") or "127.0.0.1",
                port=int(port),
                loop="uvloop",
                ws=ConsoleProtocol,
                ws_per_message_deflate=False,
                ws_max_size=64 * 1024,
                lifespan="off",
                log_level="warning",
                access_log=False,
                proxy_headers=bool(settings.ALLOWED_ORIGINS),
                timeout_graceful_shutdown=3,
            )
        )
        uvloop.run(self._serve(server, None if no_agent else Agent(), bind))

    async def _serve(self, server: uvicorn.Server, agent: Agent | None, bind: str) -> None:
        use_loop(asyncio.get_running_loop())
        if agent:
            try:
                await asyncio.to_thread(agent.start)
            except AlreadyRunning as error:
                raise CommandError(str(error)) from None
            # For consoles in processes of their own, beside this one.
            handover = serve_handover()
        # uvicorn takes these while it serves, and sends them again at its end, when there is still
        # something to put away.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        announce_start = asyncio.create_task(self._say_when_started(server, bind))
        try:
            await server.serve()
        finally:
            announce_start.cancel()
            await asyncio.to_thread(process.end)
            if agent:
                handover.close()
                await asyncio.to_thread(agent.stop)

    async def _say_when_started(self, server: uvicorn.Server, bind: str) -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        self.stdout.write(f"kvmweb serves http://{bind}/ (Ctrl+C ends it)")
        self.stdout.flush()
