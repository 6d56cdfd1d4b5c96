"""Which network filter a machine's NIC refers to."""

import libvirt
from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from lxml import etree

from kvmweb.mirror import look_again
from kvmweb.models import Job, Machine, Network, Nic
from kvmweb.operations.filters import wait_for
from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Reference
from kvmweb.spec.xml import Tree, parse
from kvmweb.virt.connections import domain
from kvmweb.virt.errors import OperationError, explain

# Seconds; a filter that the mirror does not know to be in use is taken away.
MIRRORED_WITHIN = 15


def unfilterable(machine: Machine, nic: Tree) -> str:
    """Why no filter would see this NIC's packets, as a sentence; "" where one would."""
    kind = nic.get("type", "")
    network = _network(machine, nic) if kind == "network" else None
    is_direct = network is not None and (
        network.forward_mode in ("private", "vepa", "passthrough", "hostdev")
        or (network.forward_mode == "bridge" and not network.bridge)
    )
    if is_direct or kind not in ("network", "bridge", "ethernet"):
        return now(
            "This NIC goes past the host's bridges, so that no filter sees its packets. Connect it "
            "to a bridge or another network first."
        )
    trees = [nic, *([parse(network.xml)] if network else [])]
    ports = {port.get("type") for tree in trees for port in tree.iter("virtualport")}
    if "openvswitch" in ports:
        return now("This NIC is on an Open vSwitch bridge; filters work on Linux bridges only.")
    return ""


def _network(machine: Machine, nic: Tree) -> Network | None:
    source = nic.find("source")
    name = source.get("network", "") if source is not None else ""
    return Network.objects.filter(host=machine.host_id, name=name).first()


def set_filter(job: Job, machine: Machine, mac: str, reference: Reference | None) -> None:
    """Have the NIC with this MAC address refer to a filter, now and after the next start."""
    dom = domain(machine)
    done: list[tuple[int, Tree]] = []
    try:
        for flag, tree in documents(dom):
            nic = nic_of(tree, mac)
            changed = parse(etree.tostring(nic))
            nwfilter.refer(changed, reference)
            where = "--live" if flag == libvirt.VIR_DOMAIN_AFFECT_LIVE else "--config"
            job.ran("virsh", "update-device", machine.name, "nic.xml", where)
            dom.updateDeviceFlags(_text(changed), flag)
            done.append((flag, nic))
    except libvirt.libvirtError as error:
        for flag, nic in done:
            dom.updateDeviceFlags(_text(nic), flag)
        explained = explain(error)
        raise OperationError(explained.sentence, field="mac", detail=explained.detail) from error
    look_again(machine.host_id, "machine", str(machine.uuid))
    name = reference.filter if reference else ""
    wait_for(
        lambda: Nic.objects.filter(machine=machine, mac=mac, filter=name).exists(),
        seconds=MIRRORED_WITHIN,
    )


def documents(dom: libvirt.virDomain) -> list[tuple[int, Tree]]:
    """The document in force and the next start's, as libvirt has them now; each with the flag that
    a change of it takes.
    """
    found = []
    if dom.isActive():
        found.append((libvirt.VIR_DOMAIN_AFFECT_LIVE, parse(dom.XMLDesc())))
    if dom.isPersistent():
        xml = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        found.append((libvirt.VIR_DOMAIN_AFFECT_CONFIG, parse(xml)))
    return found


def nic_of(tree: Tree, mac: str) -> Tree:
    """The <interface> with this MAC address. Raises ``OperationError``."""
    for nic in tree.iterfind("devices/interface"):
        address = nic.find("mac")
        if address is not None and address.get("address", "").lower() == mac.lower():
            return nic
    raise OperationError(_("The machine has no NIC with the MAC address %s.") % mac, field="mac")


def present(machine: Machine, mac: str) -> tuple[Tree, Reference | None]:
    """The NIC as libvirt has it now, and the filter it refers to."""
    nic = nic_of(documents(domain(machine))[0][1], mac)
    found = nic.find("filterref")
    return nic, nwfilter.reference_of(found) if found is not None else None


def _text(tree: Tree) -> str:
    return etree.tostring(tree, encoding="unicode", with_tail=False)
