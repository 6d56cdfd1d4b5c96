"""What is wrong with a wish or a change, told from the mirror before there is a job.

Libvirt is the judge: these save the person a wait, and put the sentence at its field.
"""

from collections.abc import Iterator
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import ValidationError

from kvmweb.models import Host, Network
from kvmweb.operations.networks import ground, rules, users
from kvmweb.operations.networks.rules import Found, first_of
from kvmweb.operations.networks.wish import Change, Wish, checked_name, document_in, wanted
from kvmweb.operations.operation import sentences
from kvmweb.spec import network as spec
from kvmweb.spec.mapped import element_at
from kvmweb.spec.network import NetworkDocument
from kvmweb.spec.network_places import OWN_BRIDGE
from kvmweb.spec.subnets import overlap
from kvmweb.spec.xml import XmlError, parse


def creation(host: Host, wish: Wish) -> dict[str, str]:
    """A sentence per field; the first where there are several."""
    if not host.is_connected:
        reason = host.state_reason or host.get_state_display()
        return {"host": _("The host %s can't be reached: ") % host.name + str(reason)}
    return first_of(_new_xml(host, wish.xml) if wish.xml else _new(host, wish))


def change(network: Network, change: Change) -> dict[str, str]:
    """The same for a change."""
    if change.version and change.version != network.version:
        return {"version": changed_meanwhile(network.name)}
    if change.xml:
        return first_of(_changed_xml(network, change.xml))
    try:
        before = spec.document_of(network.definition)
    except (XmlError, ValidationError):
        return {"": beyond_fields()}
    document = wanted(before, change)
    return first_of(_fits(network.host, document, network))


def changed_meanwhile(name: str) -> str:
    return (
        _("“%s” was changed meanwhile. Load the page again, and change what is there now.") % name
    )


def beyond_fields() -> str:
    return _("The fields can't say all that is in this network. Change its XML.")


def cut(network: Network, *, is_accepted: bool) -> dict[str, str]:
    """Which running machines lose their connection, unless that was accepted."""
    found = users.running(network)
    if is_accepted or not found.exists():
        return {}
    return {"cut": cuts(users.names(found))}


def cuts(names: str) -> str:
    return _("These running machines would lose their connection: %s. Confirm that.") % names


def _new(host: Host, wish: Wish) -> Found:
    if not wish.name:
        yield "name", _("Give the network a name.")
    elif Network.objects.filter(host=host, name=wish.name).exists():
        yield "name", name_is_taken(wish.name)
    yield from _fits(host, document_in(wish), None)


def name_is_taken(text: str) -> str:
    return _("A network with the name “%s” is already there. Choose another name.") % text


def _fits(host: Host, document: NetworkDocument, network: Network | None) -> Found:
    yield from rules.check(document)
    yield from subnets(host, document, network)
    yield from _bridge(host, document, network)
    yield from _devices(host, document)
    has_functions = network and "<address type=" in network.definition
    if document.mode == "hostdev" and not document.physical_function and not has_functions:
        yield "physical_function", _("Enter the network card whose virtual functions are lent.")


def subnets(host: Host, document: NetworkDocument, network: Network | None) -> Found:
    known = ground.taken_on(host, but=network)
    for number, ip in enumerate(document.ips):
        if met := overlap(ip.address, known):
            yield f"ips.{number}.address", overlaps(str(met))


def overlaps(what: str) -> str:
    return _("This overlaps with %s. Choose another subnet.") % what


def _bridge(host: Host, document: NetworkDocument, network: Network | None) -> Found:
    if not document.bridge:
        return
    if document.mode in OWN_BRIDGE:
        yield from _own_bridge(host, document.bridge, network)
    elif document.mode == "bridge":
        yield from _joined_bridge(host, document)


def _own_bridge(host: Host, name: str, network: Network | None) -> Found:
    if network and network.bridge == name:
        return
    if other := Network.objects.filter(host=host, bridge=name).first():
        yield "bridge", _("The bridge of the network “%s” has this name.") % other.name
    elif name in ground.links(host):
        yield "bridge", _("The host has a link of this name already. Choose another.")


def _joined_bridge(host: Host, document: NetworkDocument) -> Found:
    if not ground.actual(host):
        return
    kind = ground.bridges(host).get(document.bridge or "")
    if kind is None:
        yield "bridge", _("There is no bridge “%s” on this host.") % document.bridge
    elif kind == "openvswitch" and document.virtualport != "openvswitch":
        yield "virtualport", _("“%s” is an Open vSwitch bridge: say so here.") % document.bridge
    elif kind == "linux" and document.virtualport == "openvswitch":
        yield "virtualport", _("“%s” is a Linux bridge, not one of Open vSwitch.") % document.bridge


def _devices(host: Host, document: NetworkDocument) -> Found:
    links = ground.links(host)
    if not links:
        return
    for number, name in enumerate(document.devices):
        if name not in links:
            yield f"devices.{number}", _("There is no link “%s” on this host.") % name
    if document.physical_function and document.physical_function not in links:
        yield (
            "physical_function",
            _("There is no link “%s” on this host.") % document.physical_function,
        )


def _new_xml(host: Host, xml: str) -> Found:
    try:
        network = pasted(xml)
    except XmlError as error:
        yield "xml", str(error)
        return
    rows = Network.objects.filter(host=host)
    if rows.filter(name=network.name).exists():
        yield "xml", name_is_taken(network.name)
    if network.uuid and (other := rows.filter(uuid=network.uuid).first()):
        yield "xml", uuid_is_taken(network.uuid, other.name)
    yield from _xml(host, xml, None)


def uuid_is_taken(uuid: str, other: str) -> str:
    return _(
        "The network “%(other)s” has the UUID %(uuid)s already. Remove <uuid> from the document "
        "and a new one is made."
    ) % {"uuid": uuid, "other": other}


def _changed_xml(network: Network, xml: str) -> Found:
    try:
        found = pasted(xml)
    except XmlError as error:
        yield "xml", str(error)
        return
    if found.name != network.name:
        yield "xml", _("libvirt can't rename a network: leave the name “%s”.") % network.name
    if found.uuid and UUID(found.uuid) != network.uuid:
        yield "xml", _("The UUID must stay %s.") % network.uuid
    yield from _xml(network.host, xml, network)


def _xml(host: Host, xml: str, network: Network | None) -> Found:
    """What the fields would be refused for is refused here too; libvirt checks the rest."""
    try:
        document = spec.document_of(xml)
    except ValidationError as error:
        for place, sentence in sentences(error).items():
            yield "xml", _at_line(xml, sentence, place)
        return
    for place, sentence in [*rules.check(document), *subnets(host, document, network)]:
        yield "xml", _at_line(xml, sentence, place)


def _at_line(xml: str, sentence: str, place: str) -> str:
    element = element_at(NetworkDocument, parse(xml), place)
    return str(XmlError(sentence, line=int(element.sourceline or 0)))


def pasted(xml: str) -> spec.Network:
    """The document with what libvirt would not say clearly checked. Raises ``XmlError``."""
    network = spec.Network(parse(xml))
    if network.tree.tag != "network":
        raise XmlError(
            _("This is a <%s>. A network's document starts with <network>.") % network.tree.tag,
            line=1,
        )
    if not network.name:
        raise XmlError(_("The network has no name: <name>lab</name> is missing."))
    for flaw in _flaws(network):
        raise XmlError(flaw)
    return network


def _flaws(network: spec.Network) -> Iterator[str]:
    try:
        checked_name(network.name)
    except ValueError as error:
        yield str(error)
    try:
        if network.uuid:
            UUID(network.uuid)
    except ValueError:
        yield _("“%s” is not a UUID.") % network.uuid
