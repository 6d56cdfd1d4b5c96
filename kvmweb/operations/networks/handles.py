"""A network's libvirt handle, and what is refused to one that libvirt keeps only while it runs."""

import libvirt
from django.utils.translation import gettext as _

from kvmweb.models import Network
from kvmweb.virt.connections import connection


def handle(network: Network) -> libvirt.virNetwork:
    return connection(network.host_id).networkLookupByUUID(network.uuid.bytes)


def unless_transient(network: Network) -> str:
    if network.is_persistent:
        return ""
    return _("The network is transient: it is gone once it stops, and has no other definition.")
