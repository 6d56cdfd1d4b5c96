"""The whole network of a host as text, to see that nothing was left behind.

    before = whole(run)
    ...
    assert not difference(before, whole(run))

``run`` carries out a command on that host and returns what it printed. What changes by itself is
left out: counters, timers, the numbers the kernel gives, and the order of rows.
"""

import difflib
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tests.waiting import until

Run = Callable[[Sequence[str]], str]
Dump = dict[str, str]
OVSDB = "/run/openvswitch/db.sock"
PROGRAMS = (
    "dnsmasq",
    "qemu-system",
    "ovs-vswitchd",
    "ovsdb-server",
    "kvmweb.net",
    "radvd",
    "passt",
)
# What differs though nobody changed anything.
OF_LINKS = {
    "ifindex", "link_index", "link_netnsid", "hello_timer", "tcn_timer", "gc_timer", "hold_timer",
    "topology_change_timer", "message_age_timer", "forward_delay_timer", "topology_change",
    "topology_change_detected", "valid_life_time", "preferred_life_time", "expires", "stats",
    "stats64", "promiscuity", "allmulti",
}  # fmt: skip
OF_OVS = {
    "_version", "statistics", "status", "cur_cfg", "next_cfg", "rstp_status", "rstp_statistics",
    "bond_active_slave", "lacp_current", "datapath_version", "ifindex", "link_resets",
}  # fmt: skip


def here(command: Sequence[str]) -> str:
    """Run it in our own namespaces; nothing where the program is missing or fails."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return ""
    return ended.stdout


def whole(run: Run = here) -> Dump:
    """Every namespace of the host, its Open vSwitch, its programs, and what our helper keeps."""
    dump: Dump = {}
    names = sorted(line.split()[0] for line in run(["ip", "netns"]).splitlines())
    for name in ("", *names):
        dump |= {f"{title} of “{name}”": text for title, text in _namespace(run, name)}
    dump["namespaces"] = "\n".join(names)
    dump["Open vSwitch"] = _open_vswitch(run)
    dump["programs"] = _programs(run)
    dump["files"] = run(["find", "/var/lib/kvmweb/net", "-type", "f", "-printf", "%p %s\n"])
    return dump


def difference(before: Dump, after: Dump) -> str:
    """As ``diff -u`` tells it, part by part; "" when they are equal."""
    return "\n".join(
        line
        for title in sorted({*before, *after})
        for line in difflib.unified_diff(
            before.get(title, "").splitlines(),
            after.get(title, "").splitlines(),
            f"{title} before",
            f"{title} after",
            lineterm="",
            n=1,
        )
    )


def settled(before: Dump, run: Run = here, *, seconds: float = 10) -> str:
    """``difference``, when programs had this long to end and the kernel to clean up."""
    left: list[str] = []

    def is_equal() -> bool:
        left[:] = [difference(before, whole(run))]
        return not left[0]

    try:
        until(is_equal, seconds=seconds)
    except AssertionError:
        return left[0]
    return ""


def _namespace(run: Run, name: str) -> Iterator[tuple[str, str]]:
    within = ["-n", name] if name else []
    inside = ["ip", "netns", "exec", name] if name else []
    for title, command in {
        "links": ["ip", *within, "-j", "-d", "link"],
        "addresses": ["ip", *within, "-j", "address"],
        "routes": ["ip", *within, "-j", "-4", "route", "show", "table", "all"],
        "routes6": ["ip", *within, "-j", "-6", "route", "show", "table", "all"],
        "rules": ["ip", *within, "-j", "rule"],
        "queues": ["tc", *within, "-j", "qdisc"],
        "vlans": ["bridge", *within, "-j", "vlan"],
    }.items():
        yield title, _rows(json.loads(run(command) or "[]"))
    # Without counters, and with what iptables-nft and ebtables-nft put there.
    yield "firewall", run([*inside, "nft", "--stateless", "list", "ruleset"])


def _rows(rows: Iterable[Any]) -> str:
    return "\n".join(sorted(json.dumps(_steady(row), sort_keys=True) for row in rows))


def _steady(value: Any) -> Any:
    match value:
        case dict():
            return {key: _steady(inner) for key, inner in value.items() if key not in OF_LINKS}
        case list():
            return [_steady(inner) for inner in value]
    return value


def _open_vswitch(run: Run) -> str:
    text = run(["ovsdb-client", "--format=json", "dump", f"unix:{OVSDB}"])
    tables = [json.loads(line) for line in text.splitlines()]
    return "\n".join(
        sorted(
            f"{table['caption']}: {json.dumps(row, sort_keys=True)}"
            for table in tables
            for row in _without_volatile(table)
        )
    )


def _without_volatile(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if table["caption"] == "Datapath table":  # is made by itself with the first bridge
        return
    for values in table["data"]:
        row = dict(zip(table["headings"], values, strict=True))
        yield {key: value for key, value in row.items() if key not in OF_OVS}


def _programs(run: Run) -> str:
    lines = run(["ps", "-e", "-o", "args="]).splitlines()
    # In brackets: one that ended already.
    return "\n".join(
        sorted(
            line
            for line in lines
            if not line.startswith("[") and any(name in line for name in PROGRAMS)
        )
    )
