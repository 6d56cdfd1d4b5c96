"""Libvirt's complaints in words, with the line they are about."""

import pytest

from kvmweb.spec.blame import blamed, line_of

XML = """<network>
  <name>lab</name>
  <frward mode='nat'/>
  <ip address='10.0.0.300' prefix='24'>
    <dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp>
  </ip>
  <ip address='10.1.0.1' prefix='24'/>
</network>"""
VALIDATE = "Unable to validate doc against /usr/share/libvirt/schemas/network.rng\n"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            f"{VALIDATE}Element network has extra content: frward",
            "Line 3: <frward> does not belong there, in <network>.",
        ),
        (
            f"{VALIDATE}Invalid attribute start for element range\nExtra element ip in interleave",
            "Line 5: “start” of <range> has a value that is not allowed, or does not belong there.",
        ),
        (
            f"{VALIDATE}Element dhcp failed to validate content",
            "Line 5: Something in <dhcp> is missing, or not as libvirt takes it.",
        ),
        (
            "XML error: Invalid address '10.1.0.1' in network 'lab'",
            "Line 7: Libvirt says: XML error: Invalid address '10.1.0.1' in network 'lab'",
        ),
        ("internal error:\n  something else", "Libvirt says: internal error: something else"),
    ],
)
def test_it_names_the_line(message: str, sentence: str) -> None:
    assert str(blamed(XML, message)) == sentence


def test_where_two_places_fit_it_names_none() -> None:
    assert line_of(XML, "Invalid attribute address for element ip") == 0


def test_what_is_no_xml_has_its_own_line() -> None:
    assert line_of("<network>\n<name>\n</network>", "anything") == 3
