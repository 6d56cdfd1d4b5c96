"""Who was heard of by ARP and neighbour discovery: the MAC address behind each address, on the host
and in the namespaces on it.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from kvmweb.net import namespaces
from kvmweb.net.calls import call
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.rtnetlink import GETNEIGH, Rtnetlink, attributes

# NUD_REACHABLE, _STALE, _DELAY, _PROBE and _PERMANENT: somebody answered, now or earlier.
# include/uapi/linux/neighbour.h has these and the layout.
_HEARD = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
_DST, _LLADDR = 1, 2


@call("neighbours", seconds=10)
def neighbours(context: Context) -> list[dict[str, Any]]:
    """``mac`` and ``address``, each pair once."""
    found = {}
    for namespace in ["", *namespaces.names()]:
        try:
            rows = _read(context.rtnetlink(namespace))
        except NetError:
            if not namespace:
                raise
            context.forget(namespace)  # it was removed while we looked
            continue
        found.update({(row["mac"], row["address"]): row for row in rows})
    return [found[key] for key in sorted(found)]


def _read(kernel: Rtnetlink) -> list[dict[str, Any]]:
    rows = []
    for _, payload in kernel.dump(GETNEIGH, bytes(12)):
        state = struct.unpack_from("=H", payload, 8)[0]
        parts = attributes(payload, 12)
        mac, address = parts.get(_LLADDR, b""), parts.get(_DST, b"")
        if state & _HEARD and len(mac) == 6 and len(address) in (4, 16):
            rows.append({"mac": mac.hex(":"), "address": str(ipaddress.ip_address(address))})
    return rows
