"""A connected socket to a machine's VNC server, from any process of the site."""

import socket

from kvmweb.console import handover
from kvmweb.console.ways import DEADLINE, Dialled, dial_here, within
from kvmweb.virt import connections


def dial(wanted: Dialled) -> socket.socket:
    """Through this process's connection to the host, or else from the agent that has one. Raises
    ``OperationError``; takes little longer than ``DEADLINE`` seconds at most.
    """
    if not connections.is_connected(wanted.host_id):
        return handover.ask(wanted)
    # In a thread that ends with it: libvirt's connection is the thread's, a console lives long.
    return within(DEADLINE, lambda: dial_here(wanted), undo=socket.socket.close)
