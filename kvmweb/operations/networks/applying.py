"""A new document for a network that is there: defined for the next start, and brought about at once
as far as libvirt can do that.
"""

import libvirt
from django.utils.translation import gettext as _

from kvmweb.models import Job
from kvmweb.operations.networks.defining import define, definition
from kvmweb.operations.networks.restart import restart
from kvmweb.spec.network_updates import Update, live_updates, needs_restart

_COMMANDS = {
    "add-last": libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
    "delete": libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE,
    "modify": libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY,
}
_SECTIONS = {
    "ip-dhcp-host": libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
    "ip-dhcp-range": libvirt.VIR_NETWORK_SECTION_IP_DHCP_RANGE,
    "forward-interface": libvirt.VIR_NETWORK_SECTION_FORWARD_INTERFACE,
    "portgroup": libvirt.VIR_NETWORK_SECTION_PORTGROUP,
    "dns-host": libvirt.VIR_NETWORK_SECTION_DNS_HOST,
    "dns-txt": libvirt.VIR_NETWORK_SECTION_DNS_TXT,
    "dns-srv": libvirt.VIR_NETWORK_SECTION_DNS_SRV,
}


def apply(job: Job, net: libvirt.virNetwork, xml: str, *, is_restarted: bool) -> None:
    """All or nothing. ``is_restarted``: what can't be done otherwise is done by a restart; without
    it ``job.result`` says that it waits for one.
    """
    opened, before = net.connect(), definition(net)
    job.ran("virsh", "net-define", "--validate", f"{net.name()}.xml")
    define(opened, xml)
    if not net.isActive():
        return
    try:
        _catch_up(job, net)
        waits = needs_restart(net.XMLDesc(), definition(net))
        if waits and is_restarted:
            restart(job, net)
    except libvirt.libvirtError:
        job.say(_("That failed; what was done is taken back."))
        define(opened, before)
        _catch_up(job, net)
        raise
    job.write(result={**job.result, "needs_restart": waits and not is_restarted})


def _catch_up(job: Job, net: libvirt.virNetwork) -> None:
    """Bring about, in the running network, what of its definition can be."""
    for one in live_updates(net.XMLDesc(), definition(net)):
        _send(job, net, one)


def _send(job: Job, net: libvirt.virNetwork, one: Update) -> None:
    parent = ["--parent-index", str(one.parent)] if one.parent >= 0 else []
    job.ran("virsh", "net-update", net.name(), one.command, one.section, one.xml, *parent, "--live")
    net.update(
        _COMMANDS[one.command],
        _SECTIONS[one.section],
        one.parent,
        one.xml,
        libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE,
    )
