"""Persistent tap devices, by the ioctls of /dev/net/tun (include/uapi/linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from kvmweb.net import namespaces
from kvmweb.net.errors import StepError

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000


def add(namespace: str, name: str) -> None:
    """As ``ip tuntap add dev NAME mode tap`` does; QEMU opens it with or without vnet_hdr."""
    try:
        with namespaces.entered(namespace):
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise StepError("This host has no tap devices (the module “tun”).") from None
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(device, _TUNSETPERSIST, 1)
    except OSError as error:
        is_there = error.errno in (errno.EBUSY, errno.EEXIST)
        why = f"“{name}” is there already." if is_there else os.strerror(error.errno or 0)
        raise StepError(why) from None
    finally:
        os.close(device)
