"""The addresses that machines are seen with: from the guest's agent, DHCP leases and ARP."""

import ipaddress
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import libvirt

from kvmweb.mirror import hostnet
from kvmweb.models import Host, Machine, Network, Nic, State
from kvmweb.models.live import announce
from kvmweb.net.errors import NetError
from kvmweb.virt.errors import OperationError

Address = dict[str, Any]  # address, prefix, from
# By MAC address.
Seen = dict[str, list[Address]]
# Seconds an agent may take for its answer, after the five that libvirt gives it to wake up.
AGENT_SECONDS = 3
# Seconds between two questions to one machine: the first when something changed, doubled until the
# longest; the last for one whose agent is there and does not answer.
FIRST_PAUSE, LONGEST_PAUSE, UNANSWERED_PAUSE = 4.0, 60.0, 600.0
NEIGHBOURS_EVERY = 6.0
# Every interface has such a one.
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")
_RANK = {"agent": 0, "lease": 1, "arp": 2}


@dataclass
class Turn:
    """When a machine is asked again, and its agent, and what was heard last."""

    changed: datetime
    at: float = 0.0
    agent_at: float = 0.0
    pause: float = FIRST_PAUSE
    seen: Seen = field(default_factory=dict)

    def heard(self, seen: Seen) -> None:
        self.seen = seen
        self.at = time.monotonic() + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)


class Watch:
    """What was asked of a host's machines, and when. Belongs to one thread."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._turns: dict[int, Turn] = {}
        # None: the host has no helper to ask, so libvirt is, for each machine.
        self._neighbours: Seen | None = None
        self._neighbours_at = 0.0

    def look(self, connection: libvirt.virConnect) -> None:
        """Ask those whose turn it is, save what differs. Raises ``libvirtError`` only where the
        connection is lost.
        """
        running = self._running()
        leases = _leases(self.host) if running else {}
        neighbours = self._read_neighbours() if running else {}
        for machine, nics in running:
            turn = self._turn(machine)
            if time.monotonic() >= turn.at:
                turn.heard(_ask(connection, machine, nics, turn, has_arp=neighbours is not None))
            for nic in nics:
                told = turn.seen.get(nic.mac, []) + leases.get(nic.mac, [])
                _save(nic, _merged(told or (neighbours or {}).get(nic.mac, [])))

    def _read_neighbours(self) -> Seen | None:
        if time.monotonic() >= self._neighbours_at:
            self._neighbours = _neighbours(self.host)
            self._neighbours_at = time.monotonic() + NEIGHBOURS_EVERY
        return self._neighbours

    def _running(self) -> list[tuple[Machine, list[Nic]]]:
        found: dict[int, tuple[Machine, list[Nic]]] = {}
        rows = Nic.objects.filter(host=self.host, is_current=True, machine__state=State.RUNNING)
        for nic in rows.exclude(mac="").select_related("machine").only(*_COLUMNS):
            found.setdefault(nic.machine_id, (nic.machine, []))[1].append(nic)
        self._turns = {key: turn for key, turn in self._turns.items() if key in found}
        return list(found.values())

    def _turn(self, machine: Machine) -> Turn:
        turn = self._turns.get(machine.pk)
        if turn is None or turn.changed != machine.changed:
            turn = self._turns[machine.pk] = Turn(machine.changed)
        return turn


_COLUMNS = (
    "mac", "addresses", "tap", "machine__uuid", "machine__changed", "machine__is_agent_connected",
)  # fmt: skip


def _save(nic: Nic, addresses: list[Address]) -> None:
    if nic.addresses == addresses:
        return
    # By its MAC address too: the row may belong to another NIC by now.
    if Nic.objects.filter(pk=nic.pk, mac=nic.mac).update(addresses=addresses):
        announce(f"machine:{nic.machine.uuid}")


def _ask(
    connection: libvirt.virConnect, machine: Machine, nics: list[Nic], turn: Turn, *, has_arp: bool
) -> Seen:
    """What the guest's agent says; else, where it is not known yet, the host's ARP table."""
    with _tolerant(connection):
        dom = connection.lookupByUUID(machine.uuid.bytes)
        if machine.is_agent_connected and time.monotonic() >= turn.agent_at:
            told = _from_agent(connection, dom)
            if told is not None:
                return told
            turn.agent_at = time.monotonic() + UNANSWERED_PAUSE
        if not has_arp and any(nic.tap for nic in nics):
            return _told(dom, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP, "arp")
    return {}


def _leases(host: Host) -> Seen:
    """As mirrored from the networks, a few seconds ago at most."""
    found: Seen = {}
    networks = Network.objects.filter(host=host, is_active=True)
    for leases in networks.values_list("leases", flat=True):
        for lease in leases:
            address = {"address": lease["address"], "prefix": lease["prefix"], "from": "lease"}
            found.setdefault(lease["mac"].lower(), []).append(address)
    return found


def _neighbours(host: Host) -> Seen | None:
    """From the host's helper, of all machines at once. Libvirt's own way asks the kernel for each,
    and fails on newer kernels (libvirt 9.0 on 6.18: “wrong nlmsg len”).
    """
    found: Seen = {}
    try:
        rows = hostnet.helper(host.pk).call("neighbours")
    except (NetError, OperationError):
        return None
    for row in rows:
        address = {"address": row["address"], "prefix": 0, "from": "arp"}
        found.setdefault(row["mac"], []).append(address)
    return found


def _from_agent(connection: libvirt.virConnect, dom: libvirt.virDomain) -> Seen | None:
    """None where it did not answer."""
    with suppress(libvirt.libvirtError):  # before 5.10, and in drivers without agents
        dom.agentSetResponseTimeout(AGENT_SECONDS, 0)
    try:
        return _told(dom, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, "agent")
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
        return None
    finally:
        # It is the daemon's for this machine, whoever asks: others may need more time.
        with suppress(libvirt.libvirtError):
            dom.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)


def _told(dom: libvirt.virDomain, source: int, name: str) -> Seen:
    found: Seen = {}
    for interface in (dom.interfaceAddresses(source, 0) or {}).values():
        for one in interface["addrs"] or ():
            address = {"address": one["addr"], "prefix": one["prefix"], "from": name}
            found.setdefault((interface["hwaddr"] or "").lower(), []).append(address)
    return found


def _merged(addresses: Iterable[Address]) -> list[Address]:
    """Each once, as told by who knows best."""
    found: dict[str, Address] = {}
    for one in sorted(addresses, key=lambda one: _RANK[one["from"]]):
        if ipaddress.ip_address(one["address"]) not in _LINK_LOCAL:
            found.setdefault(one["address"], one)
    return list(found.values())


@contextmanager
def _tolerant(connection: libvirt.virConnect) -> Iterator[None]:
    """What one network or machine can't tell must not cost the others."""
    try:
        yield
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
