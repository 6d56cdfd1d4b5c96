"""The way of forwarded connections past libvirt's own firewall rules.

For a NAT network libvirt rejects what comes from outside: in LIBVIRT_FWI of iptables, or from
libvirt 10.4 on in the table libvirt_network of nftables. What a chain of ours accepts, another
chain on the same hook may still reject; so the pass has to stand in the very chain that leads to
libvirt's. There we keep one jump, marked ``kvmweb``, ahead of libvirt's jumps, to a chain of ours.

libvirt puts its rules into its chains whenever a network starts, but its jumps into FORWARD only
when they are missing: ours stays ahead of them over restarts of networks and of libvirtd. When
libvirt makes its chains for the first time after us, its jumps are ahead, and ``is_first`` tells.

A pass lets through the connections, both ways, that were translated to the guest's port, and
nothing else: nf_conntrack keeps the guest as the sender of the replies.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from kvmweb.net import nftables
from kvmweb.net.context import Context
from kvmweb.net.errors import StepError

CHAIN = "KVMWEB_FWD"
MARK = "kvmweb"
LIBVIRT = "libvirt_network"
PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
_JUMP = ["-m", "comment", "--comment", MARK, "-j", CHAIN]
_NUMBERS = {"tcp": 6, "udp": 17}

# protocol, the guest's address, its port; a list, for it travels as JSON.
Pass = list[Any]
Gate = dict[str, Any]


def read(context: Context) -> list[Gate]:
    """Each place where a pass may be needed, by ``kind`` and ``family``.

    ``is_needed``: there is something to get past; ``is_there``: our chain; ``is_first``: our jump
    is ahead of libvirt's; ``passes``: our rules, as text.
    """
    found = [_iptables(context, family) for family in PROGRAMS if _has_iptables(family)]
    return found + [_libvirt_network(context, family) for family in _families(context)]


def _has_iptables(family: str) -> bool:
    # Where the kernel was started without IPv6, ip6tables fails.
    is_off = family == "ip6" and not Path("/proc/thread-self/net/if_inet6").exists()
    return not is_off and shutil.which(PROGRAMS[family]) is not None


def is_right(gate: Gate, passes: list[Pass]) -> bool:
    wanted = _wanted(gate, passes)
    if not wanted:
        return not gate["is_there"]
    return bool(gate["is_first"] and gate["passes"] == [_text(gate, one) for one in wanted])


def is_open(gates: list[Gate], one: Pass) -> bool:
    """Whether connections to this guest's port come through them all."""
    return all(
        not gate["is_needed"] or (gate["is_first"] and _text(gate, one) in gate["passes"])
        for gate in gates
        if _is_of(gate, one)
    )


def put(context: Context, passes: list[Pass]) -> None:
    """Let exactly these through; without any, our chains and jumps are gone."""
    checked = [_checked(one) for one in passes]
    for gate in read(context):
        if not is_right(gate, checked):
            write = _put_iptables if gate["kind"] == "iptables" else _put_libvirt_network
            write(context, gate, _wanted(gate, checked))


def commands(gate: Gate, passes: list[Pass]) -> list[list[str]]:
    """What a person would type for ``put``."""
    if is_right(gate, passes):
        return []
    told = _iptables_commands if gate["kind"] == "iptables" else _libvirt_network_commands
    return told(gate, _wanted(gate, passes))


def _checked(one: Pass) -> Pass:
    """It becomes a line of a file: nothing but what it should be."""
    protocol, to, port = one
    if protocol not in _NUMBERS:
        raise StepError(f"A port can be forwarded for tcp or udp, not for “{protocol}”.")
    return [protocol, str(ipaddress.ip_address(to)), int(port)]


def _is_of(gate: Gate, one: Pass) -> bool:
    return bool(nftables.family(one[1]) == gate["family"])


def _wanted(gate: Gate, passes: list[Pass]) -> list[Pass]:
    """Each once, in a fixed order: two ports of the host may lead to one of the guest."""
    mine = {tuple(one) for one in passes if _is_of(gate, one)} if gate["is_needed"] else set()
    return [list(one) for one in sorted(mine)]


def _text(gate: Gate, one: Pass) -> str:
    if gate["kind"] == "iptables":
        return " ".join(_iptables_words(one))
    return " ".join(nftables.rule_words({"expr": _expressions(one)}))


def _gate(kind: str, family: str, rules: list[str], **more: Any) -> Gate:
    """``rules``: where those of FORWARD jump to, or what else they are, in their order."""
    ours = [number for number, rule in enumerate(rules) if rule == CHAIN]
    theirs = [number for number, rule in enumerate(rules) if _is_libvirts(kind, rule)]
    first = bool(ours) and (not theirs or ours[0] < theirs[0])
    return {"kind": kind, "family": family, "is_first": first, "jumps": len(ours), **more}


def _is_libvirts(kind: str, rule: str) -> bool:
    return rule != CHAIN and (kind == LIBVIRT or rule.startswith("LIBVIRT_"))


# iptables-nft or the legacy one, whichever the host has: as libvirt calls it.


def _iptables(context: Context, family: str) -> Gate:
    lines = context.run([PROGRAMS[family], "-w", "-S"]).splitlines()
    rules = [shlex.split(line) for line in lines]
    forward = [
        words[-1] if words[-2] == "-j" else " ".join(words)
        for words in rules
        if words[:2] == ["-A", "FORWARD"]
    ]
    is_closed = ["-P", "FORWARD", "DROP"] in rules
    return _gate(
        "iptables",
        family,
        forward,
        is_needed=is_closed or any(target != CHAIN for target in forward),
        is_there=["-N", CHAIN] in rules,
        passes=[" ".join(words[2:]) for words in rules if words[:2] == ["-A", CHAIN]],
    )


def _iptables_words(one: Pass) -> list[str]:
    """As ``iptables -S`` lists it."""
    protocol, to, port = one
    return [
        *("-p", protocol, "-m", "conntrack", "--ctstate", "DNAT"),
        *("--ctproto", str(_NUMBERS[protocol]), "--ctreplsrc", to, "--ctreplsrcport", str(port)),
        *("-j", "ACCEPT"),
    ]


def _put_iptables(context: Context, gate: Gate, passes: list[Pass]) -> None:
    """In one transaction, iptables-restore(8): “:CHAIN -” makes the chain, or empties it."""
    lines = ["*filter", f":{CHAIN} - [0:0]"]
    lines += [" ".join(["-D", "FORWARD", *_JUMP])] * gate["jumps"]
    lines += [" ".join(["-A", CHAIN, *_iptables_words(one)]) for one in passes]
    lines.append(" ".join(["-I", "FORWARD", "1", *_JUMP]) if passes else f"-X {CHAIN}")
    program = f"{PROGRAMS[gate['family']]}-restore"
    context.run([program, "-w", "--noflush"], stdin="\n".join([*lines, "COMMIT", ""]))


def _iptables_commands(gate: Gate, passes: list[Pass]) -> list[list[str]]:
    program = [PROGRAMS[gate["family"]], "-w"]
    found = [[*program, "-D", "FORWARD", *_JUMP]] * gate["jumps"]
    found.append([*program, "-F" if gate["is_there"] else "-N", CHAIN])
    found += [[*program, "-A", CHAIN, *_iptables_words(one)] for one in passes]
    return [*found, [*program, *(["-I", "FORWARD", *_JUMP] if passes else ["-X", CHAIN])]]


# libvirt's table of nftables: src/network/network_nftables.c.


def _families(context: Context) -> list[str]:
    if not shutil.which("nft"):
        return []
    tables = [one.get("table", {}) for one in nftables.listed(context, ["list", "tables"])]
    return [one["family"] for one in tables if one.get("name") == LIBVIRT]


def _libvirt_network(context: Context, family: str) -> Gate:
    listed = nftables.listed(context, ["list", "table", family, LIBVIRT])
    rules = [one["rule"] for one in listed if "rule" in one]
    forward = [rule for rule in rules if rule["chain"] == "forward"]
    chains = [one["chain"]["name"] for one in listed if "chain" in one]
    return _gate(
        LIBVIRT,
        family,
        [_target(rule) for rule in forward],
        is_needed="forward" in chains,
        is_there=CHAIN in chains,
        passes=[" ".join(nftables.rule_words(rule)) for rule in rules if rule["chain"] == CHAIN],
        handles=[rule["handle"] for rule in forward if _target(rule) == CHAIN],
    )


def _target(rule: dict[str, Any]) -> str:
    jumps = [one["jump"]["target"] for one in rule["expr"] if "jump" in one]
    return str(jumps[0]) if jumps else json.dumps(rule["expr"])


def _expressions(one: Pass) -> list[dict[str, Any]]:
    protocol, to, port = one
    guest = {"ct": {"key": f"{nftables.family(to)} saddr", "dir": "reply"}}
    return [
        nftables.protocol(protocol),
        nftables.is_dnated(),
        nftables.match(guest, to),
        nftables.match({"ct": {"key": "proto-src", "dir": "reply"}}, port),
        {"accept": None},
    ]


def _put_libvirt_network(context: Context, gate: Gate, passes: list[Pass]) -> None:
    table = {"family": gate["family"], "table": LIBVIRT}
    chain, forward = {"chain": {**table, "name": CHAIN}}, {**table, "chain": "forward"}
    orders: list[dict[str, Any]] = [{"add": chain}, {"flush": chain}]
    orders += [{"delete": {"rule": {**forward, "handle": one}}} for one in gate["handles"]]
    for one in passes:
        orders.append({"add": {"rule": {**table, "chain": CHAIN, "expr": _expressions(one)}}})
    jump = {**forward, "comment": MARK, "expr": [{"jump": {"target": CHAIN}}]}
    orders.append({"insert": {"rule": jump}} if passes else {"delete": chain})
    nftables.carry_out(context, orders)


def _libvirt_network_commands(gate: Gate, passes: list[Pass]) -> list[list[str]]:
    table = [gate["family"], LIBVIRT]
    found = [["nft", "add", "chain", *table, CHAIN]]
    found += [
        ["nft", "delete", "rule", *table, "forward", "handle", str(one)] for one in gate["handles"]
    ]
    found.append(["nft", "flush", "chain", *table, CHAIN])
    found += [
        ["nft", "add", "rule", *table, CHAIN, *nftables.rule_words({"expr": _expressions(one)})]
        for one in passes
    ]
    jump = ["insert", "rule", *table, "forward", "jump", CHAIN, "comment", f'"{MARK}"']
    return [*found, ["nft", *(jump if passes else ["delete", "chain", *table, CHAIN])]]
