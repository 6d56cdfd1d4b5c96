"""dnsmasq in a router's namespace: its file, starting and stopping it, what it leased.

Everything of a router is in a directory of its own below ``originals.directory()``. The first line
of dnsmasq's file has the document, so that both can be compared with what is wanted. It serves
names too, on the same legs: those of its leases, and others by way of the host's own servers.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvmweb.net import namespaces, originals
from kvmweb.net.calls import watcher
from kvmweb.net.context import Context
from kvmweb.net.errors import StepError
from kvmweb.net.step import START_SERVICES, STOP_SERVICES, Step, action

PROGRAM = "dnsmasq"
_MARK = "# kvmweb "
# systemd-resolved writes its own address on loopback into /etc/resolv.conf, which is another
# loopback in a namespace; the servers it asks are there.
_RESOLV, _BEHIND_IT = Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")
# Words of dnsmasq's own language may not come in by a value.
PLAIN = re.compile(r"[^\x00-\x1f\x7f\"\\]*")
_LEG = re.compile(r"[A-Za-z0-9_.-]+")
_OPTION = re.compile(r"[a-z0-9-]+")

Router = dict[str, Any]


def directory(router: str) -> Path:
    return originals.directory() / "routers" / router


def _file(router: str) -> Path:
    return directory(router) / "dnsmasq.conf"


def conf(router: Router) -> str:
    """dnsmasq(8)'s file; "" where the router has no DHCP."""
    if not router["dhcp"]:
        return ""
    lines = [_MARK + json.dumps(router["dhcp"], sort_keys=True)]
    where = directory(router["name"])
    lines += [f"pid-file={where}/dnsmasq.pid", f"dhcp-leasefile={where}/leases"]
    # bind-dynamic: another dnsmasq on this host, and legs that come late, are no trouble.
    lines += ["bind-dynamic", "except-interface=lo", "no-hosts", "dhcp-authoritative"]
    lines.append(f"resolv-file={_resolv()}")
    lines += [f"interface={leg}" for leg in dict.fromkeys(one["leg"] for one in router["dhcp"])]
    for one in router["dhcp"]:
        lines += _range(router, one)
    return "\n".join([*lines, ""])


def _resolv() -> Path:
    try:
        text = _RESOLV.read_text()
    except OSError:
        return _RESOLV
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    is_stub = bool(servers) and all(one.startswith("127.") for one in servers)
    return _BEHIND_IT if is_stub and _BEHIND_IT.exists() else _RESOLV


def network(router: Router, one: dict[str, Any]) -> str | None:
    """The leg's network that the range is in; None if it is in none."""
    start = ipaddress.ip_address(one["start"])
    found = [
        ipaddress.ip_interface(cidr).network
        for leg in router["legs"]
        if leg["name"] == one["leg"]
        for cidr in leg["addresses"]
    ]
    return next((str(network) for network in found if start in network), None)


def _range(router: Router, one: dict[str, Any]) -> list[str]:
    """A request is tagged with the name of the leg it came by."""
    found = ipaddress.ip_network(network(router, one) or one["start"])
    is_6 = found.version == 6
    mask = str(found.prefixlen if is_6 else found.netmask)
    lines = [f"dhcp-range={one['start']},{one['end']},{mask},{one['lease_seconds']}"]
    if is_6:
        lines.append("enable-ra")
    if one["domain"]:
        lines += [f"domain={one['domain']},{found}", f"local=/{one['domain']}/"]
    for name, value in _options(one, is_6=is_6):
        kind = "option6:" if is_6 else "" if name.isdecimal() else "option:"
        lines.append(f"dhcp-option=tag:{one['leg']},{kind}{name}{f',{value}' if value else ''}")
    for guest in one["reservations"]:
        address = f"[{guest['address']}]" if is_6 else guest["address"]
        words = [guest["mac"], address, *([guest["name"]] if guest["name"] else [])]
        lines.append(f"dhcp-host={','.join(words)}")
    return lines


def _options(one: dict[str, Any], *, is_6: bool) -> list[tuple[str, str]]:
    """Without a value dnsmasq sends none at all. IPv6's router announces itself."""
    found = [] if one["router"] is None or is_6 else [("router", one["router"])]
    if one["dns"]:
        servers = [f"[{server}]" if is_6 else server for server in one["dns"]]
        found.append(("dns-server", ",".join(servers)))
    return found + list(one["options"].items())


def is_plain(one: dict[str, Any]) -> bool:
    """Whether nothing in it means more to dnsmasq than a value."""
    names = [one["domain"], *(guest["name"] for guest in one["reservations"])]
    values = [one["router"] or "", *one["options"].values()]
    return (
        _LEG.fullmatch(one["leg"]) is not None
        and all(_OPTION.fullmatch(name) for name in one["options"])
        and all(PLAIN.fullmatch(value) for value in values)
        and all(re.fullmatch(r"[A-Za-z0-9_.-]*", name) for name in names)
    )


def read(router: str, daemons: dict[str, list[int]]) -> dict[str, Any]:
    """``dhcp_conf`` is the file on disk, ``dhcp`` the document in it, ``dhcp_pid`` of the dnsmasq
    that runs in the namespace by this file, 0 if none does. ``daemons``: all of them.
    """
    try:
        text = _file(router).read_text()
    except OSError:
        text = ""
    head = text.partition("\n")[0]
    running = [pid for pid in daemons.get(str(_file(router)), []) if _is_in(pid, router)]
    return {
        "dhcp": _documents(head),
        "dhcp_conf": text,
        "dhcp_pid": running[0] if running else 0,
        "leases": leases(router),
    }


def _documents(head: str) -> list[dict[str, Any]]:
    try:
        return list(json.loads(head.removeprefix(_MARK)))
    except ValueError:
        return []  # somebody else wrote it


def leases(router: str) -> list[dict[str, Any]]:
    """``expires`` in seconds since 1970, 0 for never; for IPv6 ``mac`` is the client's number."""
    try:
        lines = (directory(router) / "leases").read_text().splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines if not line.startswith("duid ")]
    return [
        {"expires": int(row[0]), "mac": row[1], "address": row[2], "name": row[3].strip("*")}
        for row in rows
        if len(row) >= 4 and row[0].isdecimal()
    ]


def serve(router: str, text: str, *, before: str, pid: int) -> Step:
    """``text`` is the file, "" to stop; ``before`` the one of the dnsmasq that runs as ``pid``.

    Leases are kept, as long as the router is there.
    """
    rank = START_SERVICES if text else STOP_SERVICES
    end = [["kill", str(pid)]] if pid else []
    begin = ["ip", "netns", "exec", router, PROGRAM, f"--conf-file={_file(router)}"]
    again = {"router": router, "text": before}
    back = Step("router.dhcp", again, START_SERVICES, [begin] if before else [])
    return Step(
        "router.dhcp",
        {"router": router, "text": text},
        rank,
        [*end, *([begin] if text else [])],
        [back],
    )


@watcher
def watch(changed: Callable[[str], None]) -> None:
    """Neither a lease nor a dnsmasq's end is told by anybody: look every second."""
    before = _signs()
    while True:
        time.sleep(1)
        now = _signs()
        if now != before:
            changed("routers")
        before = now


def _signs() -> list[Any]:
    """What differs when something was leased, or a dnsmasq ended."""
    found: list[Any] = []
    with contextlib.suppress(OSError):  # one goes with its router meanwhile: there is news anyway
        for file in sorted((originals.directory() / "routers").glob("*/*")):
            found.append((str(file), file.stat().st_mtime_ns))
            if file.name == "dnsmasq.pid":
                found.append(_file_of(Path("/proc", file.read_text().strip())))
    return found


@action("router.dhcp")
def _set(context: Context, router: str, text: str) -> None:
    for pid in daemons().get(str(_file(router)), []):
        _end(router, pid)
    if not text:
        _tidy(router)
        return
    if not (namespaces.DIRECTORY / router).exists():
        return  # an undo, and the router's namespace was never made again
    directory(router).mkdir(parents=True, exist_ok=True)
    new = _file(router).with_suffix(".new")
    new.write_text(text)
    new.replace(_file(router))
    context.run([PROGRAM, f"--conf-file={_file(router)}"], namespace=router)


def _tidy(router: str) -> None:
    """No file but the leases, if there are any."""
    leases_ = directory(router) / "leases"
    empty = [leases_] if leases_.exists() and not leases_.stat().st_size else []
    for path in (_file(router), directory(router) / "dnsmasq.pid", *empty):
        path.unlink(missing_ok=True)
    _remove_empty(directory(router))


def _remove_empty(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is not, or not there
        path.rmdir()
        path.parent.rmdir()


def test(context: Context, text: str) -> None:
    """Raises ``StepError`` with what dnsmasq has to say against the file."""
    context.run([PROGRAM, "--test", "--conf-file=-"], stdin=text)


def forget(router: str) -> None:
    """The leases too."""
    shutil.rmtree(directory(router), ignore_errors=True)
    with contextlib.suppress(OSError):  # other routers have theirs in it
        directory(router).parent.rmdir()


def daemons() -> dict[str, list[int]]:
    """Every dnsmasq of this host by the file it was started with. Looked up anew each time, for the
    numbers of processes are used again.
    """
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        file = _file_of(entry)
        if file:
            found.setdefault(file, []).append(int(entry.name))
    return found


def _file_of(process: Path) -> str:
    try:
        # Empty of one that has ended, though its parent has not asked how.
        words = (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    if words[0].rpartition("/")[2] != PROGRAM or not _shares_our_files(process):
        return ""
    return next((one.partition("=")[2] for one in words if one.startswith("--conf-file=")), "")


def _shares_our_files(process: Path) -> bool:
    """A container's files may be called like ours."""
    where = originals.directory()
    try:
        return where.samefile(process / "root" / where.relative_to("/"))
    except OSError:
        return False


def is_ours(router: str, process: Path) -> bool:
    """``process``: its directory in /proc."""
    return _file_of(process) == str(_file(router))


def _is_in(pid: int, router: str) -> bool:
    try:
        mine = namespaces.inode(f"/proc/{pid}/ns/net")
        return mine == namespaces.inode(namespaces.DIRECTORY / router)
    except OSError:
        return False


def _end(router: str, pid: int) -> None:
    """By a handle on the process, and only if it is still that one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_ours(router, Path(f"/proc/{pid}")):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], 5)[0]:
                raise StepError(f"{PROGRAM} (process {pid}) of {router} did not end within 5 s.")
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
