"""``manage.py token USER``: an API token on standard output, and nothing else."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kvmweb.models import ApiToken, User


class Command(BaseCommand):
    help = "Print a new API token for a user. It is shown this once: only its hash is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the user's name")
        parser.add_argument("--name", default="command line", help="what the token is for")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user named {options['user']}.")
        if not user.is_active:
            raise CommandError(f"The user {user.username} is disabled; no token would work.")
        _token, text = ApiToken.issue(user, options["name"][:100])
        self.stdout.write(text)
