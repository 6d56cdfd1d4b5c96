"""Bring the database up to date; at the first run make the administrator and the first host."""

import os
import secrets
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from kvmweb.models import Host, Role, User


class Command(BaseCommand):
    help = "Migrate the database; at the first run make the user admin and the host local."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--uri", default="qemu:///system", help="libvirt URI of the first host")

    def handle(self, *args: Any, uri: str, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        with transaction.atomic():
            if not User.objects.exists():
                self._first_run(uri)

    def _first_run(self, uri: str) -> None:
        given = os.environ.get("KVMWEB_ADMIN_PASSWORD", "")
        password = given or secrets.token_urlsafe(12)
        User.objects.create_user("admin", password=password, role=Role.ADMINISTRATOR)
        Host.objects.get_or_create(name="local", defaults={"uri": uri})
        if given:
            self.stdout.write("Sign in as admin with the password in KVMWEB_ADMIN_PASSWORD.")
        else:
            self.stdout.write(f"Sign in as admin with the password {password}")
            self.stdout.write("It is shown this once. Change it on your account page.")
