"""Which links the administrator's own way to the host runs over: a step that touches one of them
might be the last he can take.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvmweb.net.step import Step

Row = dict[str, Any]


def path(actual: dict[str, Any], *, keep: Iterable[str], ssh: str) -> dict[str, str]:
    """Links of the host, each with the reason in words.

    ``keep``: addresses by which the site is reached, or reaches the host. ``ssh``: SSH_CONNECTION
    of the session the helper runs in, ssh(1).
    """
    there = {row["name"]: row for row in actual["links"] if not row["namespace"]}
    words = ssh.split()
    session = words[2] if len(words) == 4 else ""
    found: dict[str, str] = {}
    for name, row in there.items():
        has = {address.partition("/")[0] for address in row["addresses"]}
        if row["is_default"]:
            found[name] = "the default route"
        elif session in has:
            found[name] = "the ssh session"
        elif row["kind"] != "loopback" and has & set(keep):
            found[name] = "the site's own address"
    for name, reason in list(found.items()):
        for below in _below(actual, there, name):
            found.setdefault(below, reason)
    return found


def _below(actual: dict[str, Any], there: dict[str, Row], name: str) -> set[str]:
    """Everything a link's traffic may run over, whatever lies between."""
    switches = {row["name"]: row for row in actual.get("switches", [])}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at in found or (at not in there and at not in switches):
            continue
        found.add(at)
        row = there.get(at, {})
        waiting += [one for key in ("parent", "dev", "master") if (one := row.get(key))]
        if row.get("peer") and not row["peer_namespace"]:
            waiting.append(row["peer"])
        # Machines' taps lead nowhere else.
        waiting += [
            one["name"] for one in there.values() if one["master"] == at and one["kind"] != "tap"
        ]
        waiting += _over_switches(switches, there, at)
    return found


def _over_switches(switches: dict[str, Row], there: dict[str, Row], name: str) -> list[str]:
    found = []
    for switch in switches.values():
        names = [name for port in switch.get("ports", []) for name in _interfaces(port)]
        if name in names:
            found.append(switch["name"])
        if name == switch["name"]:
            # A patch port has no link; its other end is another switch's port of that name.
            found += [one for one in names if there.get(one, {}).get("kind") != "tap"]
            found += [one for port in switch.get("ports", []) for one in _peers(switches, port)]
    return found


def _interfaces(port: Row) -> list[str]:
    names = [one["name"] if isinstance(one, dict) else one for one in port.get("interfaces", [])]
    return [port["name"], *names]


def _peers(switches: dict[str, Row], port: Row) -> list[str]:
    """The switches at the other ends of patch ports."""
    peer = port.get("peer")
    return [
        switch["name"]
        for switch in switches.values()
        if peer and any(one["name"] == peer for one in switch.get("ports", []))
    ]


def mark(steps: list[Step], over: dict[str, str]) -> list[str]:
    """Set ``is_risky``; why, in sentences."""
    reasons: dict[str, None] = {}
    for step in steps:
        hit = [name for name in step.touches if name in over]
        step.is_risky = bool(hit)
        reasons.update(dict.fromkeys(f"{name} carries {over[name]}." for name in hit))
    return list(reasons)


def warnings(steps: list[Step], actual: dict[str, Any], desired: dict[str, Any]) -> list[str]:
    """What else is to be known of addresses that move to another link."""
    moved = {
        step.args["source"]: step.args["target"]
        for step in steps
        if step.action == "addresses.move" and not step.args["namespace"]
    }
    slow = [
        f"{one['name']} passes nothing for its first {2 * (one['forward_delay'] or 15)} s: that is "
        "how STP finds loops. Switch STP on after the uplink is in, or set a shorter forward delay."
        for one in desired.get("links", [])
        if one["kind"] == "bridge" and one["stp"] and one["name"] in moved.values()
    ]
    return slow + [
        f"{row['address']} of {row['dev']} is a lease: let the host's DHCP client ask on "
        f"{moved[row['dev']]} from now on, or the host loses the address when that ends."
        for row in actual["addresses"]
        if not row["namespace"] and row["dev"] in moved
        and row["family"] == 4 and not row["is_permanent"]
    ]  # fmt: skip
