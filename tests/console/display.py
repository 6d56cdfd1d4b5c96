"""A small VNC server: it speaks RFC 6143 as far as its handshake, then does what a test says."""

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.waiting import until

SERVER_INIT = (
    (4).to_bytes(2, "big") * 2
    + bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
    + len(b"test").to_bytes(4, "big")
    + b"test"
)


class Viewing:
    """One viewer, as the server sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.shared: bytes = b""
        self.heard = b""
        self.is_gone = threading.Event()
        self.is_ready = threading.Event()

    def handshake(self) -> None:
        self.connection.sendall(b"RFB 003.008\n")
        self._exactly(12)
        self.connection.sendall(bytes([1, 1]))
        self._exactly(1)
        self.connection.sendall(bytes(4))
        self.shared = self._exactly(1)
        self.connection.sendall(SERVER_INIT)
        self.is_ready.set()

    def listen(self) -> None:
        while piece := self.connection.recv(65536):
            self.heard += piece

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data


class Display:
    """Listens at ``address``. ``then`` is what it does with a viewer after the handshake."""

    def __init__(self, then: Callable[[Viewing], None] = Viewing.listen) -> None:
        self.viewers: list[Viewing] = []
        self._then = then
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def dial(self, console: object) -> socket.socket:
        return socket.create_connection(self.address)

    def viewer(self, number: int = 0) -> Viewing:
        """The number-th that came, its handshake done."""
        until(lambda: len(self.viewers) > number, what="a viewer at the display")
        viewer = self.viewers[number]
        assert viewer.is_ready.wait(10)
        return viewer

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed before
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for viewer in self.viewers:
            with contextlib.suppress(OSError):
                viewer.connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            viewer = Viewing(connection)
            self.viewers.append(viewer)
            threading.Thread(target=self._serve, args=[viewer], daemon=True).start()

    def _serve(self, viewer: Viewing) -> None:
        with viewer.connection, contextlib.suppress(OSError):
            viewer.handshake()
            self._then(viewer)
        viewer.is_gone.set()
