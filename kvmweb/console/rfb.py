"""What a viewer says to a VNC server: RFC 6143 and its registered extensions
(https://github.com/rfbproto/rfbproto/blob/master/rfbproto.rst).

No message is ever held back whole: only its first bytes, until they tell its length.
"""

from collections.abc import Callable

from kvmweb.models import Level

VERSIONS = (b"RFB 003.007\n", b"RFB 003.008\n")
NO_SECURITY, VNC_PASSWORD = 1, 2
PASSWORD_ANSWER_LENGTH = 16
SHARED = b"\1"

SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST = 0, 2, 3
KEY, POINTER, CUT_TEXT = 4, 5, 6
CONTINUOUS_UPDATES, FENCE, XVP, SET_DESKTOP_SIZE, QEMU = 150, 248, 250, 251, 255
QEMU_KEY, QEMU_AUDIO = 0, 1

LOOKING = frozenset({SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, CONTINUOUS_UPDATES, FENCE})
LONGEST_FENCE = 64
LONGEST_HEAD = 12
ENDLESS = 2**62


class RfbError(Exception):
    """The viewer says what can't be let through, or what can't be understood."""


class ViewerStream:
    """A viewer's bytes on their way to the machine, in whatever pieces they come.

    The handshake is followed for everyone: "shared" is always set, so that nobody throws another
    out. After it, ``Level.VIEW`` lets through what is needed for looking and drops what acts on
    the machine; ``Level.CONTROL`` lets everything through and only notes when there was input.
    """

    def __init__(self, level: str) -> None:
        self._is_view = level == Level.VIEW
        self._held = b""
        self._left = 0  # bytes of the present message that are still to come
        self._is_passing = True
        self._step: Callable[[bytes], tuple[int, bytes] | None] = self._version
        self.is_ready = False
        self.has_input = False  # in what was fed last

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on. Raises ``RfbError``; the stream is of no use afterwards."""
        self.has_input = self._left > ENDLESS // 2
        data = self._held + data
        self._held = b""
        passed, at = bytearray(), 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                passed += piece if self._is_passing else b""
                continue
            taken = self._step(data[at : at + LONGEST_HEAD])
            if taken is None:
                self._held = data[at:]
                break
            at += taken[0]
            passed += taken[1]
        return bytes(passed)

    # Each step gets the start of what there is, and answers how many bytes it took and which to
    # pass in their place; None while they are too few. It puts what follows them into ``_left``.

    def _version(self, data: bytes) -> tuple[int, bytes] | None:
        if len(data) < 12:
            return None
        if data not in VERSIONS:
            raise RfbError("not RFB 3.7 or 3.8")
        self._step = self._security
        return 12, data

    def _security(self, data: bytes) -> tuple[int, bytes]:
        if data[0] not in (NO_SECURITY, VNC_PASSWORD):
            raise RfbError(f"security type {data[0]}, after which nothing can be checked")
        self._left = PASSWORD_ANSWER_LENGTH if data[0] == VNC_PASSWORD else 0
        self._step = self._client_init
        return 1, data[:1]

    def _client_init(self, data: bytes) -> tuple[int, bytes]:
        self.is_ready = True
        self._step = self._message
        return 1, SHARED

    def _message(self, data: bytes) -> tuple[int, bytes] | None:
        kind = data[0]
        head = data[: _HEADS.get(kind, 1)]
        if len(head) < _HEADS.get(kind, 1):
            return None
        length = _length(head) if kind in _HEADS else None
        if length is None:
            if self._is_view:
                raise RfbError(f"message type {kind}")
            length = ENDLESS  # a server may know what we do not; from here on all is input
        self._is_passing = not self._is_view or kind in LOOKING
        self.has_input |= kind not in LOOKING
        self._left = length - len(head)
        return len(head), head if self._is_passing else b""


# How many bytes it takes to know a message's length.
_HEADS = {
    SET_PIXEL_FORMAT: 1,
    SET_ENCODINGS: 4,
    UPDATE_REQUEST: 1,
    KEY: 1,
    POINTER: 1,
    CUT_TEXT: 8,
    CONTINUOUS_UPDATES: 1,
    FENCE: 9,
    XVP: 1,
    SET_DESKTOP_SIZE: 8,
    QEMU: 4,
}
_FIXED = {
    SET_PIXEL_FORMAT: 20,
    UPDATE_REQUEST: 10,
    KEY: 8,
    POINTER: 6,
    CONTINUOUS_UPDATES: 10,
    XVP: 4,
}


def _length(head: bytes) -> int | None:
    """Of the whole message; None for one that we do not know."""
    kind = head[0]
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == SET_ENCODINGS:
        return 4 + 4 * int.from_bytes(head[2:4], "big")
    if kind == CUT_TEXT:
        # Negative: the extended clipboard.
        return 8 + abs(int.from_bytes(head[4:8], "big", signed=True))
    if kind == FENCE:
        return 9 + head[8] if head[8] <= LONGEST_FENCE else None
    if kind == SET_DESKTOP_SIZE:
        return 8 + 16 * head[6]
    return _qemu_length(head)


def _qemu_length(head: bytes) -> int | None:
    if head[1] == QEMU_KEY:
        return 12
    if head[1] == QEMU_AUDIO:
        # enable, disable, set format
        return {0: 4, 1: 4, 2: 10}.get(int.from_bytes(head[2:4], "big"))
    return None
