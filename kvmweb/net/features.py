"""What this host's kernel can do, found by trying it in a namespace that nobody else sees."""

from __future__ import annotations

import functools
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from kvmweb.net import namespaces
from kvmweb.net.kinds import KINDS
from kvmweb.net.rtnetlink import (
    CREATE,
    EXCL,
    NEWLINK,
    NEWQDISC,
    Message,
    Rtnetlink,
    attribute,
    link_header,
    nested,
    text,
    u32,
)

# Their modules make interfaces of their own when they are loaded (dummy0, bond0, gre0, ifb0):
# it is enough that the module is there.
_LOUD = {"dummy", "bonding", "ip_gre", "ifb"}
_QDISCS = ("htb", "hfsc", "tbf", "sfq", "fq_codel", "prio", "netem", "ingress", "clsact")
_IFNAME, _LINK, _LINKINFO, _KIND, _DATA = 3, 5, 18, 1, 2
_TCA_KIND = 1
_INGRESS = 0xFFFF0000

# What to say where a feature that is no kind of link is missing.
MISSING = {"vlan_filtering": "bridges that filter VLANs", "netns": "network namespaces"}


def missing(feature: str) -> str:
    """The sentence for the page of a host that lacks it."""
    kind = KINDS.get(feature)
    what = kind.missing if kind else MISSING.get(feature, feature)
    module = f" (the module “{kind.module}”)" if kind and kind.module else ""
    return f"This host's kernel has no {what}{module}."


@functools.cache
def features() -> dict[str, bool]:
    """By name: each kind of link, ``vlan_filtering``, ``netns``, ``qdisc:htb`` and so on."""
    found: dict[str, bool] = {}
    thread = threading.Thread(target=_try, args=(found,))
    thread.start()
    thread.join()
    return found


def _try(found: dict[str, bool]) -> None:
    try:
        namespaces.leave_for_a_new_one()
    except OSError:
        found["netns"] = False
        return
    found["netns"] = True
    kernel = Rtnetlink()
    try:
        _try_links(kernel, found)
        _try_qdiscs(kernel, found)
    finally:
        kernel.close()


def _try_links(kernel: Rtnetlink, found: dict[str, bool]) -> None:
    found["tap"] = Path("/dev/net/tun").exists()
    found["veth"] = _can(kernel, _link("k0", "veth"))
    parent = u32(_LINK, kernel.index("k0"))
    tries: dict[str, Callable[[], bytes]] = {
        "bridge": lambda: _link("k1", "bridge"),
        "vlan": lambda: _link("k2", "vlan", attribute(1, struct.pack("=H", 7)), beside=parent),
        "vxlan": lambda: _link(
            "k3", "vxlan", u32(1, 7), attribute(2, bytes([127, 0, 0, 1])),
            attribute(15, struct.pack(">H", 4789)),
        ),
        "macvlan": lambda: _link("k4", "macvlan", u32(1, 4), beside=parent),
        "macvtap": lambda: _link("k5", "macvtap", u32(1, 4), beside=parent),
        "dummy": lambda: _link("k6", "dummy"),
        "bond": lambda: _link("k7", "bond"),
        "gretap": lambda: _link("k8", "gretap", attribute(7, bytes([127, 0, 0, 1]))),
    }  # fmt: skip
    for kind, request in tries.items():
        module = KINDS[kind].module
        quietly = module not in _LOUD or _is_loaded(module)
        found[kind] = _is_loadable(module) or (
            (quietly or not _has_modules()) and _can(kernel, request())
        )
    # A kernel without it takes the 0, and refuses the 1.
    filtering = attribute(7, b"\1")
    found["vlan_filtering"] = _can(kernel, _link("k9", "bridge", filtering))


def _try_qdiscs(kernel: Rtnetlink, found: dict[str, bool]) -> None:
    index = kernel.index("k0")
    for kind in _QDISCS:
        parent = _INGRESS | 0xFFF1 if kind in ("ingress", "clsact") else 0xFFFFFFFF
        handle = _INGRESS if kind in ("ingress", "clsact") else 0x70000
        head = struct.pack("=BxxxiIII", 0, index, handle, parent, 0)
        found[f"qdisc:{kind}"] = not _unknown(kernel, head + text(_TCA_KIND, kind))


def _unknown(kernel: Rtnetlink, body: bytes) -> bool:
    """Without its options the kernel refuses most of them; one it does not know, by ENOENT."""
    failures = kernel.change([Message(NEWQDISC, CREATE, body)])
    return any("unknown" in one.words or one.code == 2 for one in failures)


def _link(name: str, kind: str, *data: bytes, beside: bytes = b"") -> bytes:
    info = nested(_LINKINFO, text(_KIND, kind), nested(_DATA, *data))
    return link_header() + text(_IFNAME, name) + beside + info


def _can(kernel: Rtnetlink, body: bytes) -> bool:
    return not kernel.change([Message(NEWLINK, CREATE | EXCL, body)])


def _is_loaded(module: str) -> bool:
    return Path("/sys/module", module).exists()


@functools.cache
def _modules() -> frozenset[str]:
    """All that depmod knows of, those built in too."""
    directory = Path("/lib/modules", os.uname().release)
    found = set()
    for listed in ("modules.dep", "modules.builtin"):
        try:
            lines = (directory / listed).read_text().splitlines()
        except OSError:
            continue
        found |= {Path(line.partition(":")[0]).name.partition(".ko")[0] for line in lines}
    return frozenset(name.replace("-", "_") for name in found)


def _has_modules() -> bool:
    return bool(_modules())


def _is_loadable(module: str) -> bool:
    return module in _LOUD and module in _modules()
