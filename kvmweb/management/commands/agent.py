"""The agent alone, where web processes run apart (deploy/)."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kvmweb.agent.agent import Agent, AlreadyRunning
from kvmweb.console.handover import serve_handover


class Command(BaseCommand):
    help = "Run the agent alone: it holds the connections to hosts and runs the jobs."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        agent = Agent()
        try:
            agent.start()
        except AlreadyRunning as error:
            raise CommandError(str(error)) from None
        serve_handover()
        self.stdout.write(f"agent {agent.name} runs")
        self.stdout.flush()
        stopping.wait()
        agent.stop()
