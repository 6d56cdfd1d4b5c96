"""What the kernel of this host has for Open vSwitch."""

from __future__ import annotations

import socket
import struct

# linux/genetlink.h; the family's name is in linux/openvswitch.h.
_GENERIC, _CONTROL, _GET_FAMILY, _FAMILY_NAME = 16, 0x10, 3, 2
_REQUEST, _ERROR = 1, 2
_DATAPATH = b"ovs_datapath\0"


def has_datapath() -> bool:
    """Whether the kernel forwards for Open vSwitch (``datapath_type`` “system”). Asked like that,
    it loads the module if there is one.
    """
    attribute = struct.pack("=HH", 4 + len(_DATAPATH), _FAMILY_NAME) + _DATAPATH
    attribute += bytes(-len(attribute) % 4)
    body = struct.pack("=BBH", _GET_FAMILY, 1, 0) + attribute
    header = struct.pack("=IHHII", 16 + len(body), _CONTROL, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC) as netlink:
        netlink.settimeout(2)
        try:
            netlink.send(header + body)
            answer = netlink.recv(4096)
        except OSError:
            return False
    return bool(struct.unpack_from("=H", answer, 4)[0] != _ERROR)
