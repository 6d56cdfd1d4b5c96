"""How the displays of a host's machines are reached."""

import pytest

from kvmweb.virt.displays import Listening, Way, has_vnc, route, vnc_index, vnc_listening
from kvmweb.virt.errors import OperationError


@pytest.mark.parametrize(
    ("uri", "way"),
    [
        ("qemu:///system", Way.DESCRIPTOR),
        ("qemu:///session", Way.DESCRIPTOR),
        ("qemu+unix:///system?socket=/run/x", Way.DESCRIPTOR),
        ("test:///default", Way.DESCRIPTOR),
        ("qemu+ssh://root@far.example/system", Way.SSH),
        ("qemu+libssh2://far.example/system", Way.SSH),
        ("qemu+tcp://127.0.0.1:16509/system", Way.LOOPBACK),
        ("qemu+tls://localhost/system", Way.LOOPBACK),
        ("qemu+tcp://[::1]/system", Way.LOOPBACK),
        ("qemu+tcp://far.example/system", Way.NONE),
        ("qemu+tls://10.0.0.1/system", Way.NONE),
        ("qemu://far.example/system", Way.NONE),  # libvirt's default transport is TLS
        ("esx://far.example/", Way.NONE),
    ],
)
def test_the_way(uri: str, way: Way) -> None:
    assert route(uri).way is way


def test_what_the_uri_says_about_ssh_is_kept() -> None:
    found = route("qemu+ssh://ad%40min@far.example:2222/system?keyfile=/k&no_verify=1")
    assert (found.host, found.port, found.user) == ("far.example", 2222, "ad@min")
    assert found.parameters == {"keyfile": "/k", "no_verify": "1"}


def graphics(text: str) -> str:
    return f"<domain><devices>{text}</devices></domain>"


@pytest.mark.parametrize(
    ("text", "listening"),
    [
        (
            "<graphics type='vnc' port='5901' listen='127.0.0.1'><listen type='address' "
            "address='127.0.0.1'/></graphics>",
            Listening("127.0.0.1", 5901),
        ),
        ("<graphics type='vnc' port='5901' listen='0.0.0.0'/>", Listening("127.0.0.1", 5901)),
        ("<graphics type='vnc' port='5901' listen='::'/>", Listening("::1", 5901)),
        (
            "<graphics type='vnc' socket='/run/v.sock'><listen type='socket' "
            "socket='/run/v.sock'/></graphics>",
            Listening(path="/run/v.sock"),
        ),
        ("<graphics type='vnc'><listen type='none'/></graphics>", Listening()),
        ("<graphics type='vnc' port='-1' autoport='yes'/>", Listening()),
    ],
)
def test_where_a_display_listens(text: str, listening: Listening) -> None:
    assert vnc_listening(graphics(text)) == listening


def test_vnc_beside_another_display() -> None:
    xml = graphics("<graphics type='spice'/><graphics type='vnc'/>")
    assert has_vnc(xml)
    assert vnc_index(xml) == 1


def test_no_vnc() -> None:
    assert not has_vnc(graphics("<graphics type='spice'/>"))
    with pytest.raises(OperationError):
        vnc_index(graphics(""))
