"""``manage.py apply FILE``: make a host's network what a YAML file says, by way of the agent.

It does what the page does: a plan first, then all of it or nothing, and a change that could cut the
host off is kept only if somebody says so in time.
"""

import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError

from kvmweb.models import ChangeState, Host, Job, JobState, NetworkChange, Role, User
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Operation, Refused

# Seconds. So long the agent may take to begin.
BEGINS_WITHIN, ENDS_WITHIN = 15.0, 300.0


class Command(BaseCommand):
    help = "Plan and apply a host's network from a YAML file; see “manage.py export_network”."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the YAML file; - for standard input")
        parser.add_argument("--host", help="the host's name; may be left out where there is one")
        parser.add_argument("--plan", action="store_true", help="show the plan, change nothing")
        parser.add_argument("--yes", action="store_true", help="apply and keep without a question")
        parser.add_argument("--user", help="who asks; the first administrator by default")

    def handle(self, *, file: str, host: str | None, **options: Any) -> None:
        document = _document(file)
        self.host, self.user = _host(host), _user(options["user"])
        plan = self._done(hostnet.preview, {"document": document})
        self._show(plan.result)
        is_new = plan.result["steps"] or plan.arguments["document"] != plan.result["before"]
        if options["plan"] or not is_new or not self._is_wanted(is_sure=options["yes"]):
            return
        arguments = {"document": document, "digest": plan.result["digest"]}
        job = self._done(hostnet.apply, arguments)
        self._keep(job, is_sure=options["yes"])

    def _show(self, plan: dict[str, Any]) -> None:
        if not plan["steps"]:
            self.stdout.write(f"{self.host.name} has this network already: there is nothing to do.")
        for number, step in enumerate(plan["steps"], 1):
            for command in step["commands"]:
                self.stdout.write(f"{number:4}  {shlex.join(command)}")
        for machine in plan["machines"]:
            self.stdout.write(f"It touches the machine {machine['name']}.")
        for sentence in plan["reasons"]:
            self.stdout.write(f"This could cut you off: {sentence}")

    def _is_wanted(self, *, is_sure: bool) -> bool:
        return is_sure or self._asked(f"Apply this to {self.host.name}?")

    def _asked(self, question: str) -> bool:
        if not sys.stdin.isatty():
            raise CommandError("Nobody can be asked here: add --yes, or --plan to only look.")
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def _keep(self, job: Job, *, is_sure: bool) -> None:
        change = NetworkChange.objects.get(pk=job.result["change"])
        if change.state == ChangeState.UNCONFIRMED:
            question = f"Applied. Keep it? The host puts it back in {hostnet.CONFIRM_SECONDS} s."
            keeps = is_sure or self._asked(question)
            self._done(hostnet.confirm if keeps else hostnet.revert, {})
        change.refresh_from_db()
        self.stdout.write(f"{self.host.name}: {change.get_state_display()}")

    def _done(self, operation: Operation, arguments: dict[str, Any]) -> Job:
        """The job, ended well."""
        try:
            job = operation.submit(self.user, self.host, arguments)
        except Refused as refused:
            raise CommandError(_sentence(refused)) from None
        job.wait(BEGINS_WITHIN)
        if job.state == JobState.QUEUED:
            job.write(state=JobState.CANCELLED)
            raise CommandError("No agent took the job: is the site running? Start it: make run")
        job.wait(ENDS_WITHIN)
        if job.state != JobState.DONE:
            place = job.error_field.removeprefix("document.")
            raise CommandError(f"{place}: {job.error}" if place else job.error or job.state)
        return job


def _sentence(refused: Refused) -> str:
    places = [
        f"{name.removeprefix('document.')}: {sentence}" for name, sentence in refused.fields.items()
    ]
    return "\n".join([refused.sentence, *places])


def _document(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        found = yaml.safe_load(text)
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} is not YAML: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise CommandError(f"{file} has no fields, such as “links: [...]”.")
    return found or {}


def _host(name: str | None) -> Host:
    rows = Host.objects.filter(name=name) if name else Host.objects.all()
    found = list(rows[:2])
    if len(found) == 1:
        return found[0]
    if name:
        raise CommandError(f"There is no host named {name}.")
    raise CommandError("Say which host is meant: --host NAME.")


def _user(name: str | None) -> User:
    rows = User.objects.filter(is_active=True)
    chosen = rows.filter(username=name) if name else rows.filter(role=Role.ADMINISTRATOR)
    user = chosen.order_by("pk").first()
    if user is None:
        raise CommandError(f"There is no user named {name}." if name else "No administrator.")
    return user
