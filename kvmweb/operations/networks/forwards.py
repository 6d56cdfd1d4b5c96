"""Ports of the host sent on to guests of a network: kept in the host's own document, so that they
are there again after a reboot.
"""

import ipaddress
from typing import Annotated, Any, Literal

from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import Field, ValidationError

from kvmweb.models import Host, HostNetwork, Job, Network
from kvmweb.models.access import NETWORKS
from kvmweb.operations.hostnet import change_document
from kvmweb.operations.networks import ground
from kvmweb.operations.operation import operation
from kvmweb.spec import network as spec
from kvmweb.spec.hostnet import Address, Forward, PortNumber
from kvmweb.spec.hostnet import HostNetwork as Document
from kvmweb.spec.xml import XmlError
from kvmweb.virt.errors import OperationError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Protocol = Annotated[Literal["tcp", "udp"], Field(title="Protocol")]
HostPort = Annotated[PortNumber, Field(title="Port of the host")]
HostAddress = Annotated[
    Address | None,
    Field(title="Address of the host", description="Empty: each of its addresses."),
]
# Those in which the host stands between the guests and everybody else.
FORWARDING = ("nat", "route", "open")


def forwards_of(network: Network) -> list[Forward]:
    """Those that lead into this network."""
    return [one for one in wanted(network.host_id) if one.network == network.name]


def wanted(host_id: int) -> list[Forward]:
    row = HostNetwork.objects.filter(host=host_id).values_list("desired", flat=True).first()
    return [Forward.model_validate(one) for one in (row or {}).get("forwards", [])]


def _unless_forwarding(network: Network) -> str:
    if network.forward_mode in FORWARDING:
        return ""
    return now("Ports are forwarded into networks with NAT, and routed ones.")


def _check(network: Network, arguments: Any) -> dict[str, str]:
    to = ipaddress.ip_address(arguments.to)
    fields: dict[str, str] = {}
    if flaw := _flaw_of_target(network, to):
        fields["to"] = flaw
    if arguments.address and (flaw := _flaw_of_address(network, arguments.address, to)):
        fields["address"] = flaw
    for other in wanted(network.host_id):
        if _meet(other, arguments):
            fields["port"] = now("Port %(port)d (%(protocol)s) is forwarded to %(to)s already.") % {
                "port": other.port,
                "protocol": other.protocol,
                "to": other.to,
            }
    return fields


def _flaw_of_target(network: Network, to: IpAddress) -> str:
    try:
        document = spec.document_of(network.definition)
    except (XmlError, ValidationError):
        return ""  # whoever wrote that knows what it is about
    for ip in document.ips:
        if to == ip.interface.ip:
            return now("%s is the host's own address in this network. Enter a guest's.") % to
    if not any(to in ip.interface.network for ip in document.ips):
        return now("%s is in none of this network's subnets.") % to
    return ""


def _flaw_of_address(network: Network, address: str, to: IpAddress) -> str:
    if ipaddress.ip_address(address).version != to.version:
        return now("Both must be IPv4, or both IPv6.")
    own = [row["address"] for row in ground.addresses(network.host)]
    if own and address not in [one.partition("/")[0] for one in own]:
        return now("The host has no address %s.") % address
    return ""


def _meet(one: Forward, other: Any) -> bool:
    """Whether both want the same packets."""
    families = [ipaddress.ip_address(forward.to).version for forward in (one, other)]
    return (one.protocol, one.port, families[0]) == (other.protocol, other.port, families[1]) and (
        one.address == other.address or None in (one.address, other.address)
    )


@operation(
    _("Forward a port"),
    needs=NETWORKS,
    noun="networks",
    icon="arrow-ramp-right",
    unless=_unless_forwarding,
    check=_check,
)
def add_forward(
    job: Job,
    network: Network,
    *,
    protocol: Protocol = "tcp",
    port: HostPort,
    to: Annotated[Address, Field(title="Address of the guest")],
    to_port: Annotated[
        PortNumber | None, Field(title="Port of the guest", description="Empty: the same.")
    ] = None,
    address: HostAddress = None,
    comment: Annotated[str, Field(title="Comment", max_length=200)] = "",
) -> None:
    """What comes to a port of the host goes on to a guest."""
    made = Forward(
        network=network.name,
        protocol=protocol,
        address=address,
        port=port,
        to=to,
        to_port=to_port or port,
        comment=comment,
    )
    _change(job, network.host, [*wanted(network.host_id), made])


@operation(_("Remove the port forward"), needs=NETWORKS, noun="networks", icon="trash")
def remove_forward(
    job: Job,
    network: Network,
    *,
    protocol: Protocol,
    port: HostPort,
    address: HostAddress = None,
    to: Annotated[
        Address | None,
        Field(title="Address of the guest", description="Empty: whichever, IPv4 and IPv6."),
    ] = None,
) -> None:
    """The port is the host's own again."""
    known = wanted(network.host_id)
    named = (network.name, protocol, port, address)
    gone = [
        one
        for one in known
        if (one.network, one.protocol, one.port, one.address) == named and to in (None, one.to)
    ]
    if not gone:
        raise OperationError(now("Port %d is not forwarded.") % port, field="port")
    _change(job, network.host, [one for one in known if one not in gone])


def remove_all(job: Job, network: Network) -> None:
    """Of a network that is gone."""
    known = wanted(network.host_id)
    kept = [one for one in known if one.network != network.name]
    if len(kept) < len(known):
        _change(job, network.host, kept)


def _change(job: Job, host: Host, forwards: list[Forward]) -> None:
    def edit(document: Document) -> Document:
        return document.model_copy(update={"forwards": forwards})

    try:
        change_document(job, host, edit)
    except OperationError as error:
        field = error.field.rpartition(".")[2]
        raise OperationError(error.sentence, field=field, detail=error.detail) from error
