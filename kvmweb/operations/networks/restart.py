"""A network stopped and started, and the running machines plugged in again.

Libvirt makes the bridge anew and leaves the machines' taps dangling; changing a NIC's source plugs
its tap in, but only where the source becomes another. So each is told that it is on that bridge,
and then that it is on the network: two calls, and the guest notices nothing but the pause.
"""

from collections.abc import Iterator
from copy import deepcopy

import libvirt
from django.utils.translation import gettext as _
from lxml import etree

from kvmweb.models import Job
from kvmweb.operations.networks.defining import define, definition
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.network_places import OWN_BRIDGE, AtMode
from kvmweb.spec.nics import interfaces
from kvmweb.spec.xml import Tree, parse
from kvmweb.virt.errors import OperationError, explain

Plugged = tuple[libvirt.virDomain, Tree]


def restart(job: Job, net: libvirt.virNetwork) -> None:
    """Raises libvirt's error if it does not start with its new document; it runs with its old one
    then. Raises ``OperationError`` if a machine could not be plugged in again.
    """
    job.progress(None, _("Restarting the network"))
    plugged = list(_plugged(net)) if _has_own_bridge(net) else []
    running, pending = net.XMLDesc(), definition(net)
    job.ran("virsh", "net-destroy", net.name())
    net.destroy()
    job.ran("virsh", "net-start", net.name())
    try:
        net.create()
    except libvirt.libvirtError:
        job.say(_("It does not start with its new document; the old one is used again."))
        define(net.connect(), running)
        net.create()
        define(net.connect(), pending)
        raise
    finally:
        lost = [name for dom, nic in plugged if (name := _plug(job, net, dom, nic))]
    if lost:
        raise OperationError(
            _(
                "The network was restarted, but these machines could not be plugged in again: %s. "
                "Restart them, or set their NIC's source anew."
            )
            % ", ".join(sorted(set(lost)))
        )


def _has_own_bridge(net: libvirt.virNetwork) -> bool:
    return AtMode().get(parse(net.XMLDesc())) in OWN_BRIDGE


def _plugged(net: libvirt.virNetwork) -> Iterator[Plugged]:
    mention = f"network='{net.name()}'"
    for dom in net.connect().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            xml = dom.XMLDesc()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue  # it went off meanwhile
        for nic in interfaces(parse(xml)) if mention in xml else []:
            if nic.network == net.name():
                yield dom, nic.tree


def _plug(job: Job, net: libvirt.virNetwork, dom: libvirt.virDomain, nic: Tree) -> str:
    """The machine's name if that failed."""
    other = deepcopy(nic)
    as_bridge = Interface(other)
    as_bridge.type = "bridge"
    source = other.find("source")
    assert source is not None
    source.attrib.clear()
    as_bridge.bridge = net.bridgeName()
    try:
        for tree in (other, nic):
            job.ran("virsh", "update-device", dom.name(), "nic.xml", "--live")
            dom.updateDeviceFlags(
                etree.tostring(tree, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE
            )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ""  # it went off meanwhile
        job.say(f"{dom.name()}: {explain(error).sentence}")
        return str(dom.name())
    return ""
