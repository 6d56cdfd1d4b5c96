"""Libvirt's events, each only a reason to look again at the thing it names."""

import logging
from collections.abc import Callable
from typing import Any

import libvirt

from kvmweb.mirror import look_again

logger = logging.getLogger(__name__)

# https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventID. Not heard: RTC_CHANGE and
# BALLOON_CHANGE come every few seconds and change nothing that is mirrored.
_DOMAIN_EVENTS = [
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_PMWAKEUP,
    libvirt.VIR_DOMAIN_EVENT_ID_PMSUSPEND,
    libvirt.VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
]
_NETWORK_EVENTS = [libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE]
_POOL_EVENTS = [
    libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE,
    libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH,
]
_DEVICE_EVENTS = [
    libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE,
    libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE,
]


def listen(connection: libvirt.virConnect, host_id: int) -> None:
    """Hear everything this driver tells; a driver that has no such events is read on a clock."""
    for register, events, kind, key in [
        (connection.domainEventRegisterAny, _DOMAIN_EVENTS, "machine", "UUIDString"),
        (connection.networkEventRegisterAny, _NETWORK_EVENTS, "network", "UUIDString"),
        (connection.storagePoolEventRegisterAny, _POOL_EVENTS, "pool", "UUIDString"),
        (connection.nodeDeviceEventRegisterAny, _DEVICE_EVENTS, "device", "name"),
    ]:
        for event in events:
            try:
                register(None, event, _heard(host_id, kind, key), None)
            except libvirt.libvirtError as error:
                logger.debug("host %s: no event %s %s: %s", host_id, kind, event, error)


def _heard(host_id: int, kind: str, key: str) -> Callable[..., None]:
    def hear(connection: libvirt.virConnect, thing: Any, *details: Any) -> None:
        look_again(host_id, kind, getattr(thing, key)())

    return hear
