"""``manage.py export_network HOST``: what is wanted of a host's network, as YAML."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from kvmweb.models import Host, HostNetwork
from kvmweb.spec.hostnet import HostNetwork as Document
from kvmweb.spec.hostnet_edits import to_yaml


class Command(BaseCommand):
    help = "Print what is wanted of a host's network as YAML, for “manage.py apply”."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("host", help="the host's name on this site")

    def handle(self, *, host: str, **options: object) -> None:
        found = Host.objects.filter(name=host).first()
        if found is None:
            raise CommandError(f"There is no host named {host}.")
        document = Document.model_validate(HostNetwork.of(found).desired).without_defaults()
        self.stdout.write(to_yaml(document), ending="")
