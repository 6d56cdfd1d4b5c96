"""Network filters: made, changed rule by rule or as XML, copied, removed."""

import time
from collections.abc import Collection
from typing import Annotated, Any

import libvirt
from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from kvmweb.mirror import hostnet, look_again
from kvmweb.models import Host, HostNetwork, Job, NwFilter
from kvmweb.models.access import NETWORKS
from kvmweb.models.filters import version_of
from kvmweb.models.live import announce
from kvmweb.net.errors import NetError
from kvmweb.operations.operation import operation
from kvmweb.spec import nwfilter as spec
from kvmweb.spec.nwfilter import Filter, Reference, Rule
from kvmweb.spec.xml import MAX_BYTES, parse
from kvmweb.virt.connections import connection
from kvmweb.virt.errors import OperationError, explain

# libvirt's schema takes time that doubles with each attribute of an <stp>: 2.5 s for 16 of them.
STP_VALIDATED = 10
NAMED = 5  # users that a refusal names; the others are counted


def checked_name(name: str) -> str:
    if flaw := spec.name_flaw(name):
        raise ValueError(flaw)
    return name


def checked_chain(chain: str) -> str:
    if flaw := spec.chain_flaw(chain):
        raise ValueError(flaw)
    return chain or "root"


def checked_document(xml: str) -> str:
    """Raises ``ValueError`` that says the line."""
    spec.checked(xml)
    return xml


Name = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(checked_name),
    Field(title="Name"),
]
Chain = Annotated[
    str,
    AfterValidator(checked_chain),
    Field(
        title="Chain",
        description="root, or a name that begins with mac, stp, vlan, arp, rarp, ipv4 or ipv6.",
    ),
]
Document = Annotated[
    str,
    StringConstraints(max_length=MAX_BYTES),
    AfterValidator(checked_document),
    Field(title="libvirt's XML", description="A whole <filter>."),
]
Version = Annotated[
    str,
    Field(
        title="Version",
        description="The one that was looked at, so that no newer one is overwritten; or empty.",
    ),
]
Place = Annotated[int, Field(ge=0, title="Place", description="Of the rule or reference, from 0.")]


class RuleArguments(Rule):
    version: Version = ""


class PlacedRuleArguments(RuleArguments):
    place: Place


class ReferenceArguments(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    filter: Name
    parameters: Annotated[
        dict[str, str], Field(title="Values", description="Of its variables, by name.")
    ] = {}
    version: Version = ""


def users(nwfilter: NwFilter) -> list[tuple[str, str]]:
    """Machine and NIC of everyone that refers to it, now or after the next start."""
    found = dict.fromkeys(
        (machine.name, mac)
        for machine in nwfilter.machines
        for document in (machine.xml, machine.inactive_xml)
        if document
        for mac in _macs(document, nwfilter.name)
    )
    return list(found)


def users_sentence(nwfilter: NwFilter) -> str:
    """Why it can't be deleted: who uses it; "" where nobody does."""
    names = [
        now("the NIC %(mac)s of %(machine)s") % {"mac": mac, "machine": name}
        for name, mac in users(nwfilter)
    ]
    names += [now("the filter %s") % row.name for row in nwfilter.referrers]
    if not names:
        return ""
    more = now(" and %d more") % (len(names) - NAMED) if len(names) > NAMED else ""
    return now("It is in use by %s. Let them use another filter first.") % (
        ", ".join(names[:NAMED]) + more
    )


def unsupported(host: Host) -> str:
    """Why the host has no filters, as a sentence; "" where it has."""
    if host.has_filters or not host.is_connected:
        return ""
    sentence = now("Libvirt's driver of the host %(host)s (%(driver)s) has no network filters.")
    return sentence % {"host": host.name, "driver": host.driver or "?"}


def blind(hosts: Collection[Host]) -> list[tuple[Host, str]]:
    """On which of these hosts filters for IP have no effect, and why, as a sentence."""
    rows = HostNetwork.objects.filter(host__in=[host.pk for host in hosts if host.has_filters])
    bridging = dict(rows.values_list("host", "actual__bridging"))
    sentence = now(
        "On %(host)s filters for IP have no effect: its kernel does not show them the packets that "
        "its bridges pass on (%(switches)s = 0)."
    )
    found = []
    for host in hosts:
        states = bridging.get(host.pk) or {}
        off = sorted(
            f"net.bridge.bridge-nf-call-{name}" for name in states if states[name] is False
        )
        if off:
            found.append((host, sentence % {"host": host.name, "switches": ", ".join(off)}))
    return found


def _sees_bridged(host: Host) -> str:
    return "" if blind([host]) else now("The host's filters see bridged packets.")


def _made_by_us(nwfilter: NwFilter) -> str:
    if nwfilter.group:
        return now("This filter is made from the security group %s. Change that.") % nwfilter.group
    if nwfilter.is_ours:
        return now("This filter joins a NIC's security groups. Change those.")
    return ""


def _check_free(host: Host, name: str, field: str) -> dict[str, str]:
    if NwFilter.objects.filter(host=host, name=name).exists():
        sentence = now("There is a filter named %s on this host already. Choose another name.")
        return {field: sentence % name}
    return {}


def _check_create(host: Host, arguments: Any) -> dict[str, str]:
    return _check_free(host, arguments.name, "name")


def _check_define(host: Host, arguments: Any) -> dict[str, str]:
    return _check_free(host, Filter(parse(arguments.xml)).name, "xml")


def _check_edit(nwfilter: NwFilter, arguments: Any) -> dict[str, str]:
    if Filter(parse(arguments.xml)).name == nwfilter.name:
        return {}
    sentence = now("A filter keeps its name, %s. Clone it to have one of another name.")
    return {"xml": sentence % nwfilter.name}


def _check_clone(nwfilter: NwFilter, arguments: Any) -> dict[str, str]:
    return _check_free(nwfilter.host, arguments.name, "name")


@operation(
    _("Show bridged packets to filters"),
    needs=NETWORKS,
    icon="eye",
    confirm=_(
        "From then on every packet that a bridge of the host passes on goes through all of its "
        "iptables rules, those of other programs too. It lasts until the host restarts. To keep "
        "it, set net.bridge.bridge-nf-call-iptables and -ip6tables to 1 in its sysctl.conf."
    ),
    unless=_sees_bridged,
)
def show_bridged(job: Job, host: Host) -> None:
    """Have the host's kernel show bridged packets to iptables, as filters for IP need."""
    for program in ("iptables", "ip6tables"):
        job.ran("sysctl", "-w", f"net.bridge.bridge-nf-call-{program}=1")
    helper = hostnet.helper(host.pk)
    try:
        helper.call("bridging.show")
        hostnet.read(host.pk, helper, ["bridging"])
    except NetError as error:
        raise OperationError(error.sentence) from error
    announce("filters", host.topic)


@operation(_("New filter"), needs=NETWORKS, icon="plus", check=_check_create, unless=unsupported)
def create(job: Job, host: Host, *, name: Name, chain: Chain = "root") -> None:
    """A filter without rules: it lets everything pass."""
    put(job, host.pk, Filter.new("filter", name=name, chain=chain), field="name")


@operation(
    _("New filter from XML"),
    needs=NETWORKS,
    icon="file-code",
    check=_check_define,
    unless=unsupported,
)
def define(job: Job, host: Host, *, xml: Document) -> None:
    """A filter as libvirt's XML describes it."""
    put(job, host.pk, Filter(parse(xml)), field="xml")


@operation(_("Edit XML"), needs=NETWORKS, icon="file-code", check=_check_edit, unless=_made_by_us)
def edit(job: Job, nwfilter: NwFilter, *, xml: Document, version: Version = "") -> None:
    """Replace the filter's document. Running machines that use it follow at once."""
    _found(nwfilter, version)
    document = Filter(parse(xml))
    document.uuid = str(nwfilter.uuid)
    put(job, nwfilter.host_id, document, field="xml")


@operation(_("Clone"), needs=NETWORKS, icon="copy", check=_check_clone)
def clone(job: Job, nwfilter: NwFilter, *, name: Name) -> None:
    """The same rules under another name."""
    put(job, nwfilter.host_id, _found(nwfilter).copy(name), field="name")


@operation(
    _("Delete"),
    needs=NETWORKS,
    icon="trash",
    is_dangerous=True,
    confirm=_("The filter and its rules are gone for good."),
    unless=users_sentence,
)
def delete(job: Job, nwfilter: NwFilter) -> None:
    """Remove the filter; refused while a machine or another filter uses it."""
    if sentence := users_sentence(nwfilter):
        raise OperationError(sentence)
    job.ran("virsh", "nwfilter-undefine", nwfilter.name)
    connection(nwfilter.host_id).nwfilterLookupByUUID(nwfilter.uuid.bytes).undefine()
    look_again(nwfilter.host_id, "nwfilter", str(nwfilter.uuid))
    wait_for(lambda: not NwFilter.objects.filter(pk=nwfilter.pk).exists())


@operation(_("Add rule"), needs=NETWORKS, icon="plus", unless=_made_by_us)
def add_rule(job: Job, nwfilter: NwFilter, *, rule: RuleArguments) -> None:
    """One more rule, behind the others of its priority."""
    document = _found(nwfilter, rule.version)
    document.add(rule)
    put(job, nwfilter.host_id, document)


@operation(_("Edit rule"), needs=NETWORKS, icon="pencil", unless=_made_by_us)
def edit_rule(job: Job, nwfilter: NwFilter, *, rule: PlacedRuleArguments) -> None:
    """Replace what a rule says; what of it this site does not know stays."""
    document = _found(nwfilter, rule.version)
    try:
        document.replace(rule.place, rule)
    except IndexError:
        raise _no_such_place() from None
    put(job, nwfilter.host_id, document)


@operation(_("Use another filter"), needs=NETWORKS, icon="link", unless=_made_by_us)
def add_reference(job: Job, nwfilter: NwFilter, *, reference: ReferenceArguments) -> None:
    """Let another filter's rules be part of this one."""
    if not NwFilter.objects.filter(host=nwfilter.host_id, name=reference.filter).exists():
        raise OperationError(
            _("There is no filter named %s on this host.") % reference.filter, field="filter"
        )
    document = _found(nwfilter, reference.version)
    document.add(Reference(reference.filter, tuple(sorted(reference.parameters.items()))))
    put(job, nwfilter.host_id, document, field="filter")


@operation(_("Move"), needs=NETWORKS, icon="arrows-sort", unless=_made_by_us)
def move(
    job: Job,
    nwfilter: NwFilter,
    *,
    place: Place,
    to: Annotated[int, Field(ge=0, title="To", description="The place it is to have.")],
    version: Version = "",
) -> None:
    """Put a rule elsewhere in the document: it counts among rules of the same priority."""
    document = _found(nwfilter, version)
    try:
        document.move(place, to)
    except IndexError:
        raise _no_such_place() from None
    put(job, nwfilter.host_id, document)


@operation(_("Remove rule"), needs=NETWORKS, icon="trash", is_dangerous=True, unless=_made_by_us)
def remove(job: Job, nwfilter: NwFilter, *, place: Place, version: Version = "") -> None:
    """Take out a rule, or a reference to another filter."""
    document = _found(nwfilter, version)
    try:
        document.remove(place)
    except IndexError:
        raise _no_such_place() from None
    put(job, nwfilter.host_id, document)


def _macs(document: str, name: str) -> list[str]:
    found = []
    for nic in parse(document).iterfind("devices/interface"):
        reference = nic.find("filterref")
        if reference is not None and reference.get("filter") == name:
            mac = nic.find("mac")
            found.append(mac.get("address", "") if mac is not None else "")
    return found


def _found(nwfilter: NwFilter, version: str = "") -> Filter:
    """What libvirt has now; refused where that is not the ``version`` somebody looked at."""
    xml = connection(nwfilter.host_id).nwfilterLookupByUUID(nwfilter.uuid.bytes).XMLDesc()
    if version and version != version_of(xml):
        look_again(nwfilter.host_id, "nwfilter", str(nwfilter.uuid))
        raise OperationError(
            _("Somebody has changed this filter since you looked at it. Look again, then repeat.")
        )
    return Filter(parse(xml))


def put(job: Job, host_id: int, document: Filter, *, field: str = "") -> None:
    """Give it to libvirt and wait until the mirror has it, so that the next page shows it."""
    job.ran("virsh", "nwfilter-define", "--validate", f"{document.name}.xml")
    try:
        defined = _defined(connection(host_id), document)
    except libvirt.libvirtError as error:
        explained = explain(error)
        raise OperationError(explained.sentence, field=field, detail=explained.detail) from error
    key, xml = defined.UUIDString(), defined.XMLDesc()
    job.result = {**job.result, "uuid": key, "name": defined.name(), "version": version_of(xml)}
    look_again(host_id, "nwfilter", key)
    wait_for(lambda: NwFilter.objects.filter(host=host_id, uuid=key, xml=xml).exists())


def _defined(opened: libvirt.virConnect, document: Filter) -> libvirt.virNWFilter:
    if any(len(stp.attrib) > STP_VALIDATED for stp in document.tree.iter("stp")):
        return opened.nwfilterDefineXML(document.xml)
    try:
        return opened.nwfilterDefineXMLFlags(document.xml, libvirt.VIR_NWFILTER_DEFINE_VALIDATE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return opened.nwfilterDefineXML(document.xml)  # a libvirt before 7.7


def wait_for(condition: Any, *, seconds: float = 3) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def _no_such_place() -> OperationError:
    return OperationError(_("There is no such rule any more. Look again."), field="place")
