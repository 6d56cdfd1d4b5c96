"""The seam to uvicorn: its websocket protocol, except that ``/websockify`` is taken out of the
event loop and carried by a thread, because a screen's worth of bytes is no work for a loop that
serves everybody's pages.
"""

import logging
import os
import socket
import threading
from typing import ClassVar

from uvicorn.protocols.utils import get_remote_addr, is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from kvmweb.console import clerk, consoles
from kvmweb.console.dial import dial
from kvmweb.console.handler import Dial, Facade, serve
from kvmweb.operations.consoles import PATH

logger = logging.getLogger("kvmweb.console")

# Of address space; a console needs little of it, and touches less.
STACK_BYTES = 512 * 1024
# So long a client may take to read the answer to its request.
ANSWER_SECONDS = 5.0
_starting = threading.Lock()


class ConsoleProtocol(WebSocketsSansIOProtocol):
    """To be given to uvicorn as ``ws=``."""

    dial: ClassVar[Dial] = staticmethod(dial)
    _is_request = True

    def data_received(self, data: bytes) -> None:
        is_request, self._is_request = self._is_request, False
        if is_request and _is_for_console(data):
            self._take_out(data)
        else:
            super().data_received(data)

    def _take_out(self, request: bytes) -> None:
        if is_ssl(self.transport):
            logger.error("consoles need TLS to end in a proxy before the site, not in uvicorn")
            self._refuse(b"501 Not Implemented")
        elif not consoles.take_place():
            logger.error("no console was opened: %d are", consoles.MAXIMUM)
            self._refuse(b"503 Service Unavailable")
        else:
            self._start_thread(request)

    def _start_thread(self, request: bytes) -> None:
        """The descriptor's copy keeps the connection when the transport closes its own."""
        original = self.transport.get_extra_info("socket")
        connection = socket.socket(fileno=os.dup(original.fileno()))
        connection.settimeout(ANSWER_SECONDS)
        address = get_remote_addr(self.transport) or ("", 0)
        self.transport.abort()
        # Not here: starting a thread waits until it runs.
        clerk.ask(_start, connection, address, Facade(request, type(self).dial))

    def _refuse(self, status: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.transport.close()


def _start(connection: socket.socket, address: tuple[str, int], facade: Facade) -> None:
    thread = threading.Thread(
        target=_serve, args=[connection, address, facade], name="console", daemon=True
    )
    with _starting:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)


def _serve(connection: socket.socket, address: tuple[str, int], facade: Facade) -> None:
    try:
        serve(connection, address, facade)
    finally:
        consoles.give_place()


def _is_for_console(request: bytes) -> bool:
    target = request.split(b" ", 2)[1]
    return target.partition(b"?")[0] == PATH.encode()
