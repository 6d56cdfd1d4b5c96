"""The browser's end of a console: websockify's websocket, with an end to all it keeps."""

import contextlib
import select
import socket
import time
from typing import Any

from websockify.websocket import WebSocketWantReadError, WebSocketWantWriteError
from websockify.websockifyserver import CompatibleWebSocket

from kvmweb.console.rfb import RfbError

# Of the browser's own messages; noVNC's longest is a paste, and it sends that in pieces of 10 KiB.
LONGEST_MESSAGE = 256 * 1024
# What the kernel holds for a browser that does not read, beside the one piece that we do.
UNSENT = 256 * 1024
LINGER_SECONDS = 2.0


class ConsoleSocket(CompatibleWebSocket):  # type: ignore[misc]  # websockify has no types
    """Over a socket that does not block."""

    @property
    def has_unsent(self) -> bool:
        return bool(self._send_buffer)

    @property
    def is_closing(self) -> bool:
        return bool(self._sent_close)

    def push(self, data: bytes) -> None:
        """Send one message; what is not taken at once goes with ``flush``. Nothing may wait yet.

        websockify's own way puts header and data together first: a copy of every byte.
        """
        header = _header(len(data))
        try:
            sent = self.socket.sendmsg([header, data])
        except BlockingIOError:
            sent = 0
        if sent < len(header):
            self._send_buffer = header[sent:] + data
        elif sent < len(header) + len(data):
            self._send_buffer = data[sent - len(header) :]

    def flush(self) -> None:
        with contextlib.suppress(WebSocketWantWriteError):
            self._flush()

    def handle_ping(self, data: bytes) -> None:
        # Only where nothing waits: a client that pings and does not read would fill the buffer.
        if not self._send_buffer:
            with contextlib.suppress(WebSocketWantWriteError):
                self._sendmsg(0xA, data)

    def _decode_hybi(self, buf: bytes) -> dict[str, Any] | None:
        frame: dict[str, Any] | None = super()._decode_hybi(buf)
        if frame is None and len(self._partial_msg) + len(buf) > LONGEST_MESSAGE:
            raise RfbError("a message without an end")
        return frame

    def prepare(self) -> None:
        """For what comes after the upgrade."""
        self.setblocking(False)  # noqa: FBT003
        for level, option, value in _OPTIONS:
            with contextlib.suppress(OSError):  # a unix socket, from a proxy on this computer
                self.setsockopt(level, option, value)

    def say_goodbye(self, code: int, reason: str) -> None:
        """Tell the browser why, if it is still there, and give it a moment to hear it."""
        if self.socket is None:
            return
        reason = reason.encode()[:123].decode(errors="ignore")
        with contextlib.suppress(OSError, RfbError):
            with contextlib.suppress(WebSocketWantWriteError):
                self.shutdown(socket.SHUT_RDWR, code, reason)
            self._linger()

    def _linger(self) -> None:
        """Until the browser has answered the goodbye, or a moment has passed: a socket closed with
        unread bytes in it would take the goodbye back.
        """
        ends = time.monotonic() + LINGER_SECONDS
        waiting = select.poll()
        while (left := ends - time.monotonic()) > 0:
            waiting.register(self.socket, select.POLLIN | self.has_unsent * select.POLLOUT)
            for _, event in waiting.poll(left * 1000):
                if event & select.POLLOUT:
                    self.flush()
                if event & ~select.POLLOUT and self._has_answered():
                    return

    def _has_answered(self) -> bool:
        try:
            return self.recvmsg() is None
        except WebSocketWantReadError:
            return False


_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, 25, UNSENT),  # TCP_NOTSENT_LOWAT, linux/tcp.h
    # A browser whose computer vanished is noticed after a minute.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


def _header(length: int) -> bytes:
    """Of an unmasked binary frame: RFC 6455, 5.2."""
    if length < 126:
        return bytes([0x82, length])
    if length < 65536:
        return b"\x82\x7e" + length.to_bytes(2, "big")
    return b"\x82\x7f" + length.to_bytes(8, "big")
