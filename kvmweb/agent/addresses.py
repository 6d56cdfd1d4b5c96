"""Watching which addresses the machines of a host are seen with.

In a thread and on a connection of its own: a guest's agent may take seconds to answer, and some
never do.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
from django.db import DatabaseError, close_old_connections

from kvmweb.mirror.addresses import Watch
from kvmweb.models import Host
from kvmweb.virt import connections
from kvmweb.virt.errors import OperationError

logger = logging.getLogger(__name__)
LOOK_EVERY = 3.0


@contextmanager
def watched(host: Host) -> Iterator[None]:
    """While the host is connected."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(host, stopping), name=f"addresses {host.name}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()


def _watch(host: Host, stopping: threading.Event) -> None:
    watch = Watch(host)
    while not stopping.wait(LOOK_EVERY):
        try:
            watch.look(connections.connection(host.pk))
        except (OperationError, libvirt.libvirtError) as error:
            logger.info("%s: can't look for addresses: %s", host.name, error)
        except DatabaseError:
            logger.exception("%s: could not save addresses", host.name)
        close_old_connections()
    close_old_connections()
