"""The namespace of a router: made, marked, taken away. Its own loopback bears the mark: that lives
and ends with the namespace, whatever is done to its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvmweb.net import kernel, namespaces
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError, StepError
from kvmweb.net.kernel import MARK
from kvmweb.net.routers import dhcp
from kvmweb.net.rtnetlink import NEWLINK, Message, link_header, text
from kvmweb.net.step import ADD_NAMESPACES, DROP_NAMESPACES, SET_LINKS, Step, action

LOOPBACK = "lo"
_IFNAME, _IFALIAS, _IFF_UP = 3, 20, 1
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
# New addresses are made known to neighbours; for IPv4 see announce.py.
_NOTIFY = "net/ipv6/conf/all/ndisc_notify"
# Some kernels put these into every new namespace (fb_tunnels_only_for_init_net, sysctl/net.rst).
FALLBACK = {
    "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0",
}  # fmt: skip


def add(name: str, *, forwards: bool) -> Step:
    return Step(
        "router.add",
        {"name": name, "forwards": forwards},
        ADD_NAMESPACES,
        _add_words(name, forwards=forwards),
        [
            Step(
                "router.remove",
                {"name": name, "lenient": True},
                DROP_NAMESPACES,
                [["ip", "netns", "delete", name]],
            )
        ],
    )


def _add_words(name: str, *, forwards: bool) -> list[list[str]]:
    return [
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "set", "dev", LOOPBACK, "up", "alias", MARK],
        ["ip", "netns", "exec", name, "sysctl", "-w", f"{_NOTIFY.replace('/', '.')}=1"],
        *_forward_words(name, forwards=forwards),
    ]


def remove(name: str, *, forwards: bool, undo: list[Step]) -> Step:
    """``undo``: what brings back what goes with it."""
    again = {"name": name, "forwards": forwards, "lenient": True}
    return Step(
        "router.remove",
        {"name": name},
        DROP_NAMESPACES,
        [["ip", "netns", "delete", name]],
        [Step("router.add", again, ADD_NAMESPACES, _add_words(name, forwards=forwards)), *undo],
    )


def forward(name: str, *, forwards: bool) -> Step:
    words = _forward_words(name, forwards=not forwards)
    back = Step("router.forward", {"name": name, "forwards": not forwards}, SET_LINKS, words)
    return Step(
        "router.forward",
        {"name": name, "forwards": forwards},
        SET_LINKS,
        _forward_words(name, forwards=forwards),
        [back],
    )


def _forward_words(name: str, *, forwards: bool) -> list[list[str]]:
    settings = [f"{one.replace('/', '.')}={int(forwards)}" for one in _FORWARDING]
    return [["ip", "netns", "exec", name, "sysctl", "-w", *settings]]


def is_there(name: str) -> bool:
    return (namespaces.DIRECTORY / name).exists()


@action("router.add")
def _add(context: Context, name: str, *, forwards: bool, lenient: bool = False) -> None:
    if is_there(name) and not lenient:
        raise StepError(f"There is a network namespace “{name}” on this host by now.")
    if not is_there(name):
        context.forget(name)
        context.run(["ip", "netns", "add", name])
    body = link_header(flags=_IFF_UP, change=_IFF_UP) + text(_IFNAME, LOOPBACK)
    marked = Message(NEWLINK, 0, body + text(_IFALIAS, MARK), context.number)
    for failure in context.rtnetlink(name).change([marked]):
        raise StepError(failure.sentence)
    _write(name, {_NOTIFY: "1", **dict.fromkeys(_FORWARDING, str(int(forwards)))})


@action("router.forward")
def _forward(context: Context, name: str, *, forwards: bool) -> None:
    _write(name, dict.fromkeys(_FORWARDING, str(int(forwards))))


def _write(name: str, settings: dict[str, str]) -> None:
    try:
        with namespaces.entered(name):
            for one, value in settings.items():
                path = Path("/proc/sys", one)
                if path.exists():  # not where IPv6 is switched off
                    path.write_text(value)
    except NetError as error:
        raise StepError(error.sentence) from None


def forwards(name: str) -> bool:
    with namespaces.entered(name):
        return all(
            Path("/proc/sys", one).read_text().strip() != "0"
            for one in _FORWARDING
            if Path("/proc/sys", one).exists()
        )


@action("router.remove")
def _remove(context: Context, name: str, *, lenient: bool = False) -> None:
    if not is_there(name):
        return
    rows = kernel.links(context.rtnetlink(name))
    stranger = strangers(name, rows)
    if lenient and (stranger or not (_bears_mark(rows) or _is_untouched(rows))):
        return
    if stranger:
        raise StepError(stranger)
    context.forget(name)
    context.run(["ip", "netns", "delete", name])
    dhcp.forget(name)


def is_ours(context: Context, name: str) -> bool:
    return _bears_mark(kernel.links(context.rtnetlink(name)))


def _bears_mark(rows: list[dict[str, Any]]) -> bool:
    return any(row["name"] == LOOPBACK and row["owner"] for row in rows)


def _is_untouched(rows: list[dict[str, Any]]) -> bool:
    """As ``ip netns add`` leaves it: the helper was killed before it could mark it."""
    return not any(row["is_up"] or row["name"] not in {LOOPBACK, *FALLBACK} for row in rows)


def strangers(name: str, rows: list[dict[str, Any]]) -> str:
    """Why the namespace can't go: something of somebody else is in it; "" if nothing is. ``rows``:
    its links. We do not move a foreign link back: nobody knows where it came from.
    """
    for row in rows:
        if not row["owner"] and row["name"] not in {LOOPBACK, *FALLBACK}:
            return (
                f"The interface {row['name']} in the router {name} is not of our making. "
                "Move it out first."
            )
    found = [f"“{word}” (process {pid})" for pid, word in _processes(name)]
    if found:
        return (
            f"In the router {name} other programs are running: {', '.join(found)}. End them first."
        )
    return ""


def _processes(name: str) -> list[tuple[int, str]]:
    """But for our own dnsmasq, which is stopped before."""
    wanted = namespaces.inode(namespaces.DIRECTORY / name)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if namespaces.inode(entry / "ns/net") != wanted or dhcp.is_ours(name, entry):
                continue
            found.append((int(entry.name), (entry / "comm").read_text().strip()))
        except OSError:
            continue  # it has ended
    return found
