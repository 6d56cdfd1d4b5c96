"""Addresses that a guest always gets."""

import ipaddress
from typing import Annotated

from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import Field, ValidationError

from kvmweb.mirror import look_again
from kvmweb.models import Job, Network
from kvmweb.models.access import NETWORKS
from kvmweb.operations.networks import rules
from kvmweb.operations.networks.applying import apply
from kvmweb.operations.networks.checks import beyond_fields
from kvmweb.operations.networks.defining import at_field, definition, fields
from kvmweb.operations.networks.handles import handle, unless_transient
from kvmweb.operations.operation import operation
from kvmweb.spec import network as spec
from kvmweb.spec.hostnet import Address, Mac
from kvmweb.spec.network import DnsName, NetworkDocument, ReservedAddress
from kvmweb.spec.xml import XmlError
from kvmweb.virt.errors import OperationError


def _check_reservation(network: Network, arguments: object) -> dict[str, str]:
    mac, address = getattr(arguments, "mac", None), getattr(arguments, "address", "")
    client, name = getattr(arguments, "id", ""), getattr(arguments, "name", "")
    try:
        document = spec.document_of(network.definition)
    except (XmlError, ValidationError):
        return {"": beyond_fields()}
    number = _subnet_of(document, address)
    if number is None:
        return {"address": now("%s is in none of this network's subnets.") % address}
    ip = document.ips[number]
    wish = ReservedAddress(mac=mac, id=client, name=name, address=address)
    ip.reservations.append(wish)
    place = f"ips.{number}.reservations.{len(ip.reservations) - 1}."
    found = rules.first_of(rules.ips(document))
    return {
        field.removeprefix(place): sentence
        for field, sentence in found.items()
        if field.startswith(place)
    }


def _subnet_of(document: NetworkDocument, address: str) -> int | None:
    found = ipaddress.ip_address(address)
    numbers = (n for n, ip in enumerate(document.ips) if found in ip.interface.network)
    return next(numbers, None)


@operation(
    _("Reserve an address"),
    needs=NETWORKS,
    noun="networks",
    icon="bookmark",
    unless=unless_transient,
    check=_check_reservation,
)
def add_reservation(
    job: Job,
    network: Network,
    *,
    address: Annotated[Address, Field(title="Address")],
    mac: Annotated[Mac | None, Field(title="MAC address", description="For IPv4.")] = None,
    name: Annotated[DnsName, Field(title="Name", description="The guest is told that too.")] = "",
    id: Annotated[str, Field(title="Client identifier", description="For IPv6; or a name.")] = "",
) -> None:
    """Have a guest get always the same address. It gets it when it asks the next time."""
    document = fields(handle(network))
    number = _subnet_of(document, address)
    if number is not None:
        wish = ReservedAddress(mac=mac, id=id, name=name, address=address)
        document.ips[number].reservations.append(wish)
    _apply_reservations(job, network, document)


@operation(
    _("Remove the reservation"),
    needs=NETWORKS,
    noun="networks",
    icon="bookmark-off",
    unless=unless_transient,
)
def remove_reservation(
    job: Job, network: Network, *, address: Annotated[Address, Field(title="Address")]
) -> None:
    """The guest keeps its address until its lease ends."""
    document = fields(handle(network))
    for ip in document.ips:
        kept = [one for one in ip.reservations if one.address != address]
        if len(kept) < len(ip.reservations):
            ip.reservations[:] = kept
            _apply_reservations(job, network, document)
            return
    raise OperationError(now("%s is not reserved.") % address, field="address")


def _apply_reservations(job: Job, network: Network, document: NetworkDocument) -> None:
    net = handle(network)
    with at_field("", "address"):
        apply(job, net, spec.edited(definition(net), document), is_restarted=False)
    look_again(network.host_id, "network", str(network.uuid))
