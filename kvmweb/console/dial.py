"""A connected socket to a machine's VNC server, from any process of the site."""

import socket

from kvmweb.console import handover
from kvmweb.console.ways import DEADLINE, Dialled, dial_here, within
from kvmweb.virt import connections
from kvmweb.virt.errors import OperationError


def dial(wanted: Dialled) -> socket.socket:
    """Through this process's connection to the host, or else from the agent that has one. Raises
    ``OperationError``; takes little longer than ``DEADLINE`` seconds at most.
    """
    try:
        connections.connection(wanted.host_id)
    except OperationError:
        return handover.ask(wanted)
    return within(DEADLINE, lambda: dial_here(wanted), undo=socket.socket.close)
