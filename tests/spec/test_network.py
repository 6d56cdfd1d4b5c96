"""Every kind of network is read and written; what fields it has is in ``networks/<kind>.json``.

``KVMWEB_GOLDEN=write pytest tests/spec`` writes those files anew; read the difference before you
commit it.
"""

import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from lxml import etree
from pydantic import ValidationError

from kvmweb.spec.network import (
    Bandwidth,
    DhcpRange,
    DnsHost,
    Ip,
    Mode,
    NetworkDocument,
    PortGroup,
    ReservedAddress,
    Srv,
    StaticRoute,
    Vlans,
    created,
    document_of,
    edited,
)
from kvmweb.spec.xml import parse

GOLDEN = Path(__file__).with_name("networks")
KINDS = sorted(path.stem for path in GOLDEN.glob("*.xml"))
SCHEMA = Path("/usr/share/libvirt/schemas/network.rng")


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    """What ``virt-xml-validate`` uses."""
    return etree.RelaxNG(etree.parse(SCHEMA))


def _xml(kind: str) -> str:
    return (GOLDEN / f"{kind}.xml").read_text()


def _same(one: str, other: str) -> bool:
    canonical = [etree.canonicalize(text, strip_text=True) for text in (one, other)]
    return canonical[0] == canonical[1]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_like_that(kind: str) -> None:
    golden = GOLDEN / f"{kind}.json"
    shown = document_of(_xml(kind)).model_dump(mode="json", exclude_defaults=True)
    if os.environ.get("KVMWEB_GOLDEN") == "write":
        golden.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    assert shown == json.loads(golden.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_writing_what_was_read_changes_nothing(kind: str) -> None:
    assert _same(edited(_xml(kind), document_of(_xml(kind))), _xml(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_made_from_its_fields_it_is_the_same_and_libvirts(kind: str, schema: etree.RelaxNG) -> None:
    document = document_of(_xml(kind))
    made = created(kind, document)
    assert document_of(made) == document
    schema.assertValid(parse(made))
    schema.assertValid(parse(_xml(kind)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_one_becomes_another(kind: str, other: str, schema: etree.RelaxNG) -> None:
    """As far as the fields go: from every kind to every other."""
    wanted = document_of(_xml(other))
    changed = edited(_xml(kind), wanted)
    schema.assertValid(parse(changed))
    assert document_of(changed) == wanted


def test_every_mode_has_a_golden_file() -> None:
    assert {document_of(_xml(kind)).mode for kind in KINDS} == set(get_args(Mode))


def _changed(document: NetworkDocument, **fields: Any) -> NetworkDocument:
    return NetworkDocument.model_validate(document.model_dump() | fields)


def test_what_we_do_not_know_survives_an_edit() -> None:
    document = document_of(_xml("dns"))
    xml = edited(_xml("dns"), _changed(document, domain="other", dns_texts=[], dnsmasq_options=[]))
    assert 'by="hand"' in xml
    assert '<domain name="other"/>' in xml
    assert "log-dhcp" not in xml
    assert "<txt" not in xml


def test_a_port_group_keeps_what_no_field_has() -> None:
    document = document_of(_xml("ovs"))
    trunk = document.portgroups[1].model_copy(update={"vlan": Vlans(tags=[30])})
    xml = edited(_xml("ovs"), _changed(document, portgroups=[trunk]))
    assert 'name="v10"' not in xml
    assert 'trustGuestRxFilters="yes"' in xml
    assert 'profileid="gold"' in xml
    assert document_of(xml).portgroups[0].vlan == Vlans(tags=[30])


def test_reservations_are_known_by_their_mac() -> None:
    document = document_of(_xml("nat"))
    ip = document.ips[0]
    second = ip.reservations[1].model_copy(update={"name": "db1"})
    changed = ip.model_copy(update={"reservations": [second]})
    xml = edited(_xml("nat"), _changed(document, ips=[changed, document.ips[1]]))
    assert "52:54:00:00:00:01" not in xml
    assert '<host mac="52:54:00:00:00:02" ip="192.168.100.11" name="db1"/>' in xml
    assert 'netmask="255.255.255.0"' in xml  # as it was written


def test_a_network_stands_for_its_first_address() -> None:
    assert Ip(address="192.168.100.0/24").address == "192.168.100.1/24"
    assert Ip(address="fd00:100::/64").address == "fd00:100::1/64"


def test_what_libvirt_adds_to_a_running_network_is_no_field_of_it() -> None:
    ports = _xml("nat").replace("2000", "1024").replace("3000", "65535")
    assert document_of(ports).nat_ports is None
    pool = _xml("passthrough-pf").replace("<pf", "<interface dev='eth3v0'/><pf")
    assert document_of(pool).devices == []


def test_several_tags_make_a_trunk() -> None:
    assert Vlans(tags=[1, 2]).is_trunk
    assert not Vlans(tags=[1]).is_trunk


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ip(address="192.168.100.1"), "Add the prefix to 192.168.100.1"),
        (lambda: Ip(address="192.168.300.1/24"), "is not an address with a prefix"),
        (lambda: Ip(address="; rm -rf /"), "is not an address with a prefix"),
        (lambda: DhcpRange(start="10.0.0.1", end="x"), "“x” is not an IP address."),
        (
            lambda: DhcpRange(start="10.0.0.1", end="10.0.0.2", lease_seconds=60),
            "120 seconds or more",
        ),
        (lambda: ReservedAddress(mac="52:54:00", address="10.0.0.1"), "is not a MAC address"),
        (lambda: ReservedAddress(mac="53:54:00:00:00:00", address="10.0.0.1"), "multicast"),
        (lambda: ReservedAddress(name="a b", address="10.0.0.1"), "not a name in DNS"),
        (lambda: ReservedAddress(id="zz", address="fd00::1"), "not a DHCPv6 client identifier"),
        (lambda: NetworkDocument(bridge="br0/x"), "no slash"),
        (lambda: NetworkDocument(bridge="a-name-too-long-1"), "at most 15 bytes"),
        (lambda: NetworkDocument(mtu=67), "greater than or equal to 68"),
        (lambda: NetworkDocument(domain="$(reboot)"), "not a name in DNS"),
        (lambda: Vlans(tags=[4095]), "less than or equal to 4094"),
        (lambda: Vlans(tags=[1, 2], native_untagged=3), "must be among the trunk's"),
        (lambda: Vlans(tags=[1, 2], native_untagged=1, native_tagged=2), "one native VLAN"),
        (lambda: StaticRoute(to="10.0.0.1/8", gateway="10.1.1.1"), "the bits behind the prefix"),
        (lambda: PortGroup(name="a b"), "Use letters, digits"),
        (lambda: Vlans(tags=[]), "Enter at least one"),
        (lambda: DnsHost(address="10.0.0.1", names=["ok", "not ok"]), "not a name in DNS"),
        (lambda: Srv(service=".ldap", protocol="tcp"), "the name of a service"),
        (lambda: Bandwidth(average=0), "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        make()
