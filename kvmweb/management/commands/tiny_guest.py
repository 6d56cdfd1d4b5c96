"""``manage.py tiny_guest``: build the project's own little machine, once."""

from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from kvmweb import tiny_guest
from kvmweb.tiny_guest import media


class Command(BaseCommand):
    help = "Builds the tiny guest (kernel and initrd) where it is missing, and says where it is."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--output",
            type=Path,
            default=settings.STATE_DIR / "tiny_guest",
            help="the directory; default: tiny_guest in KVMWEB_STATE_DIR",
        )
        parser.add_argument("--iso", action="store_true", help="also an ISO image for a CD drive")
        parser.add_argument("--disk", action="store_true", help="also a qcow2 disk image (BIOS)")

    def handle(self, *, output: Path, iso: bool, disk: bool, **options: object) -> None:
        try:
            guest = tiny_guest.build(output, say=self.stdout.write)
            paths = [guest.kernel, guest.initrd]
            if iso:
                paths.append(media.iso(output))
            if disk:
                paths.append(media.disk(output))
        except tiny_guest.BuildError as error:
            raise CommandError(str(error)) from error
        for path in paths:
            self.stdout.write(str(path))
