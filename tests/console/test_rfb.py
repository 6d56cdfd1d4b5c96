"""What of a viewer's stream gets through, in whatever pieces it comes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmweb.console.rfb import VERSIONS, RfbError, ViewerStream
from kvmweb.models import Level

VERSION = b"RFB 003.008\n"
OPEN = VERSION + b"\1" + b"\0"
OPENED = VERSION + b"\1" + b"\1"

PIXEL_FORMAT = bytes(20)
UPDATE = bytes([3, 1]) + bytes(8)
CONTINUOUS = bytes([150, 1]) + bytes(8)
KEY = bytes([4, 1, 0, 0, 0, 0, 0, 65])
POINTER = bytes([5, 1, 0, 1, 0, 1])
XVP = bytes([250, 0, 1, 2])
QEMU_KEY = bytes([255, 0, 0, 1]) + bytes(8)
AUDIO_ON, AUDIO_FORMAT = bytes([255, 1, 0, 0]), bytes([255, 1, 0, 2]) + bytes(6)


def encodings(count: int) -> bytes:
    return b"\2\0" + count.to_bytes(2, "big") + b"\7" * (4 * count)


def cut_text(text: bytes, *, is_extended: bool = False) -> bytes:
    length = -len(text) if is_extended else len(text)
    return b"\6\0\0\0" + length.to_bytes(4, "big", signed=True) + text


def fence(payload: bytes) -> bytes:
    return b"\xf8\0\0\0" + b"\0\0\0\1" + bytes([len(payload)]) + payload


def desktop_size(screens: int) -> bytes:
    return bytes([251, 0, 4, 0, 3, 0, screens, 0]) + b"\x04" * (16 * screens)


LOOKING = st.one_of(
    st.sampled_from([PIXEL_FORMAT, UPDATE, CONTINUOUS]),
    st.integers(0, 300).map(encodings),
    st.binary(max_size=64).map(fence),
)
ACTING = st.one_of(
    st.sampled_from([KEY, POINTER, XVP, QEMU_KEY, AUDIO_ON, AUDIO_FORMAT]),
    st.binary(max_size=400).map(cut_text),
    # The contents may look like any message.
    st.lists(st.sampled_from([UPDATE, KEY]), min_size=1).map(
        lambda parts: cut_text(b"".join(parts), is_extended=True)
    ),
    st.integers(0, 16).map(desktop_size),
)
MESSAGES = st.lists(st.tuples(st.booleans(), LOOKING, ACTING), max_size=12)


def fed(stream: ViewerStream, data: bytes, cuts: list[int]) -> bytes:
    """What comes out, the input cut at these places."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(stream.feed(data[start:end]) for start, end in pairwise(edges))


@given(MESSAGES, st.lists(st.integers(0, 10_000)))
def test_looking_gets_through_and_acting_does_not(
    messages: list[tuple[bool, bytes, bytes]], cuts: list[int]
) -> None:
    said = [looking if is_looking else acting for is_looking, looking, acting in messages]
    wanted = [looking for is_looking, looking, _ in messages if is_looking]
    stream = ViewerStream(Level.VIEW)
    assert fed(stream, OPEN + b"".join(said), cuts) == OPENED + b"".join(wanted)


@given(MESSAGES, st.lists(st.integers(0, 10_000)))
def test_control_lets_everything_through(
    messages: list[tuple[bool, bytes, bytes]], cuts: list[int]
) -> None:
    said = b"".join(looking if is_looking else acting for is_looking, looking, acting in messages)
    assert fed(ViewerStream(Level.CONTROL), OPEN + said, cuts) == OPENED + said


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000)))
def test_control_lets_through_even_what_is_unknown(noise: bytes, cuts: list[int]) -> None:
    passed = fed(ViewerStream(Level.CONTROL), OPEN + noise, cuts)
    # What is missing at the end is the head of a message still to be understood.
    assert (OPENED + noise).startswith(passed)
    assert len(OPENED + noise) - len(passed) < 12


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000)))
def test_how_noise_is_cut_changes_nothing(noise: bytes, cuts: list[int]) -> None:
    assert outcome(noise, []) == outcome(noise, cuts)


def outcome(noise: bytes, cuts: list[int]) -> bytes | str:
    """What a viewer's noise comes to; of what raises, only that it does."""
    try:
        return fed(ViewerStream(Level.VIEW), OPEN + noise, cuts)
    except RfbError:
        return "refused"


@given(st.binary(max_size=2000))
def test_of_noise_only_whole_looking_messages_get_through(noise: bytes) -> None:
    passed = outcome(noise, [])
    if isinstance(passed, bytes):
        stream = ViewerStream(Level.VIEW)
        assert stream.feed(passed) == passed
        assert not stream.has_input


@given(st.binary(min_size=12, max_size=12).filter(lambda text: text not in VERSIONS))
def test_another_protocol_is_refused(greeting: bytes) -> None:
    with pytest.raises(RfbError):
        ViewerStream(Level.CONTROL).feed(greeting)


@pytest.mark.parametrize("kind", [0, 3, 5, 16, 18, 19, 20, 30, 255])
def test_a_security_type_that_hides_what_follows_is_refused(kind: int) -> None:
    with pytest.raises(RfbError):
        ViewerStream(Level.VIEW).feed(VERSION + bytes([kind]))


def test_the_answer_to_a_password_is_passed_and_not_read() -> None:
    answer = bytes([4, 5, 6, 255]) * 4
    stream = ViewerStream(Level.VIEW)
    handshake = VERSION + b"\2" + answer
    assert stream.feed(handshake) == handshake
    assert not stream.is_ready
    assert stream.feed(b"\0" + KEY + UPDATE) == b"\1" + UPDATE
    assert stream.is_ready


@pytest.mark.parametrize(
    "kind", sorted(set(range(256)) - {0, 2, 3, 4, 5, 6, 150, 248, 250, 251, 255})
)
def test_an_unknown_message_of_a_viewer_is_refused(kind: int) -> None:
    stream = ViewerStream(Level.VIEW)
    stream.feed(OPEN)
    with pytest.raises(RfbError):
        stream.feed(bytes([kind]))


def test_input_is_told_from_looking() -> None:
    stream = ViewerStream(Level.CONTROL)
    stream.feed(OPEN + UPDATE)
    assert not stream.has_input
    stream.feed(KEY)
    assert stream.has_input
    stream.feed(UPDATE)
    assert not stream.has_input
    stream.feed(bytes([99]))  # unknown: from here on everything counts
    stream.feed(UPDATE)
    assert stream.has_input


def test_a_paste_of_two_gigabytes_is_not_kept() -> None:
    stream = ViewerStream(Level.VIEW)
    stream.feed(OPEN + b"\6\0\0\0\x7f\xff\xff\xff")
    for _ in range(100):
        assert stream.feed(bytes(65536)) == b""
    assert not stream._held
