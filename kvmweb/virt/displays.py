"""Where the displays of machines are: what a host's URI and a live document say about the way.

``virDomainOpenGraphicsFD`` hands a file descriptor over, so it works where libvirt's daemon is
reached through a unix socket and nowhere else. https://libvirt.org/uri.html has the parameters.
"""

import ipaddress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvmweb.spec.xml import Tree, parse
from kvmweb.virt.errors import OperationError


class Way(Enum):
    DESCRIPTOR = "libvirt hands the display over"
    SSH = "through ssh, to where the display listens"
    LOOPBACK = "libvirt over TCP on this very computer"
    NONE = "there is no way that is encrypted"


@dataclass(frozen=True)
class Route:
    way: Way
    host: str = ""
    port: int = 0
    user: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listening:
    """A VNC server's address and port, or its unix socket; all empty: it listens nowhere."""

    address: str = ""
    port: int = 0
    path: str = ""


def route(uri: str) -> Route:
    """How consoles of a host with this libvirt URI are reached."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    is_remote = bool(parts.hostname) and transport != "unix"
    if not is_remote and transport in ("", "unix"):
        return Route(Way.DESCRIPTOR)
    if transport in ("ssh", "libssh", "libssh2"):
        return _over_ssh(parts)
    return Route(Way.LOOPBACK if _is_loopback(parts.hostname or "") else Way.NONE)


def _over_ssh(parts: SplitResult) -> Route:
    return Route(
        Way.SSH,
        host=parts.hostname or "localhost",
        port=parts.port or 0,
        user=unquote(parts.username or ""),
        parameters=dict(parse_qsl(parts.query)),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def has_vnc(xml: str) -> bool:
    return any(graphics.get("type") == "vnc" for graphics in _graphics(xml))


def vnc_index(xml: str) -> int:
    """Which of the machine's displays is VNC. Raises ``OperationError``."""
    for index, graphics in enumerate(_graphics(xml)):
        if graphics.get("type") == "vnc":
            return index
    raise OperationError("This machine has no VNC display.")


def vnc_listening(xml: str) -> Listening:
    """Where the VNC server of a running machine listens. Raises ``OperationError``."""
    graphics = _graphics(xml)[vnc_index(xml)]
    listen = graphics.find("listen")
    path = graphics.get("socket") or (listen.get("socket") if listen is not None else "")
    if path:
        return Listening(path=path)
    address = graphics.get("listen") or (listen.get("address") if listen is not None else "")
    port = graphics.get("port", "")
    if not port.isdigit():
        return Listening()
    return Listening(address=_reachable(address or "127.0.0.1"), port=int(port))


def _reachable(address: str) -> str:
    """Where to knock at a server that listens on every address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


def _graphics(xml: str) -> list[Tree]:
    return parse(xml).findall("devices/graphics")
