"""Every protocol and attribute of a network filter is shown; what that looks like is in
``filters/<name>.json``. ``KVMWEB_GOLDEN=write pytest tests/spec`` writes those files anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pydantic import ValidationError

from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Filter, Reference, Rule
from kvmweb.spec.nwprotocols import ETHERNET, PROTOCOLS, flaws, inputs, joined, split
from kvmweb.spec.xml import XmlError, parse, text_of

GOLDEN = Path(__file__).with_name("filters")
DOCUMENTS = sorted(path.stem for path in GOLDEN.glob("*.xml"))
LIBVIRTS = sorted(Path("/etc/libvirt/nwfilter").glob("*.xml"))
SCHEMA = Path("/usr/share/libvirt/schemas/nwfilter.rng")


def _document(name: str) -> Filter:
    return Filter(parse((GOLDEN / f"{name}.xml").read_text()))


def _shown(name: str) -> dict[str, Any]:
    found = _document(name)
    return {
        "name": found.name,
        "chain": found.chain,
        "variables": sorted(found.variables),
        "entries": [
            {
                "rule": entry.model_dump(),
                "source": entry.source,
                "destination": entry.destination,
                "ports": [entry.source_ports, entry.destination_ports],
                "others": [list(pair) for pair in entry.others],
            }
            if isinstance(entry, Rule)
            else {"filter": entry.filter, "parameters": [list(pair) for pair in entry.parameters]}
            for _place, entry in found.entries
        ],
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_shown_like_that(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("KVMWEB_GOLDEN") == "write":
        golden.write_text(json.dumps(_shown(name), indent=1, ensure_ascii=False) + "\n")
    assert _shown(name) == json.loads(golden.read_text())


def test_every_protocol_is_in_the_golden_document() -> None:
    assert {rule.protocol for rule in _every()} == {*PROTOCOLS, ""}
    assert PROTOCOLS.keys() >= ETHERNET


def _every() -> list[Rule]:
    return _document("every-protocol").rules + _document("stp").rules


@pytest.mark.parametrize("name", ["every-protocol", "references"])
def test_the_golden_documents_are_libvirts(name: str) -> None:
    """Not ``stp``: libvirt's schema takes minutes for so many attributes of it."""
    etree.RelaxNG(etree.parse(SCHEMA)).assertValid(etree.parse(GOLDEN / f"{name}.xml"))


@pytest.mark.parametrize("path", LIBVIRTS, ids=lambda path: path.stem)
def test_libvirts_own_filters_pass_and_keep_everything(path: Path) -> None:
    found = nwfilter.checked(path.read_text())
    before = etree.tostring(found.tree, method="c14n")
    for place, entry in found.entries:
        if isinstance(entry, Rule):
            found.replace(place, Rule.model_validate(entry.model_dump()))
    assert nwfilter.is_same(before.decode(), found.xml)


def test_there_are_filters_of_libvirts_to_look_at() -> None:
    assert len(LIBVIRTS) > 20


def test_every_rule_survives_being_written_again() -> None:
    found = _document("every-protocol")
    before = etree.tostring(found.tree, method="c14n")
    for place, entry in found.entries:
        assert isinstance(entry, Rule)
        found.replace(place, Rule.model_validate(entry.model_dump()))
    assert etree.tostring(found.tree, method="c14n") == before


def test_what_is_not_known_survives_edits_around_it() -> None:
    found = _document("unknown")
    found.replace(1, Rule(protocol="tcp", conditions={"dstportstart": "2222"}))
    found.add(Rule(action="drop"))
    found.move(2, 0)
    assert '<future kept="yes"/>' in found.xml
    assert 'colour="blue"' in found.xml
    assert '<quic dstportstart="443"/>' in found.xml
    assert '<tcp dstportstart="2222" taste="sweet"/>' in found.xml
    assert found.rules[0].action == "drop"


def test_entries_are_moved_removed_and_added_in_place() -> None:
    found = _document("references")
    found.move(0, 2)
    assert [type(entry).__name__ for _place, entry in found.entries] == [
        "Rule",
        "Reference",
        "Reference",
    ]
    assert found.references[-1].filter == "no-mac-spoofing"
    found.remove(1)
    found.add(Reference("clean-traffic", (("IP", "10.0.0.5"),)))
    assert found.references == [
        Reference("no-mac-spoofing"),
        Reference("clean-traffic", (("IP", "10.0.0.5"),)),
    ]
    found.move(0, 99)
    assert isinstance(found.entries[-1][1], Rule)
    for place in (-1, 3):
        with pytest.raises(IndexError):
            found.remove(place)
    with pytest.raises(IndexError):
        found.replace(0, Rule())


def test_another_protocol_takes_the_place_of_the_old_one() -> None:
    found = _document("references")
    found.replace(1, Rule(protocol="icmp", conditions={"type": "8"}, is_negated=True))
    assert text_of(found.tree).count("<tcp") == 0
    assert '<icmp type="8" match="no"/>' in found.xml
    found.replace(1, Rule(action="drop", is_stateful=False))
    assert "icmp" not in found.xml
    assert found.rules[0].is_stateful is False


def test_a_copy_has_another_name_and_no_identity() -> None:
    found = _document("references")
    copy = found.copy("other")
    assert (copy.name, copy.uuid, copy.rules) == ("other", "", found.rules)
    assert found.uuid


def test_the_variables_a_tree_needs_are_those_not_given_on_the_way() -> None:
    documents = {path.stem: path.read_text() for path in LIBVIRTS}
    documents["references"] = (GOLDEN / "references.xml").read_text()
    assert nwfilter.needed("references", documents) == ["MAC", "PORT"]
    assert nwfilter.needed("allow-dhcp-server", documents) == ["DHCPSERVER"]
    assert nwfilter.needed("clean-traffic", documents) == ["IP", "MAC"]
    assert nwfilter.needed("not-there", documents) == []


def test_filters_that_refer_to_each_other_do_not_hang_it() -> None:
    loop = (
        "<filter name='{}'><filterref filter='{}'/>"
        "<rule action='drop' direction='in'><ip srcipaddr='$A'/></rule></filter>"
    )
    documents = {"a": loop.format("a", "b"), "b": loop.format("b", "a")}
    assert nwfilter.needed("a", documents) == ["A"]
    assert nwfilter.tree_of("a", documents) == ["a", "b"]


@pytest.mark.parametrize(
    ("xml", "line", "sentence"),
    [
        ("<filter name='x'", 1, "not well-formed"),
        ("<domain/>", 1, "not a <filter>"),
        ("<filter/>", 1, "needs a name"),
        ("<filter name='a b'/>", 1, "Begin with a letter"),
        ("<filter name='1a'/>", 1, "Begin with a letter"),
        ("<filter name='a/b'/>", 1, "Begin with a letter"),
        ("<filter name='$(id)'/>", 1, "Begin with a letter"),
        (f"<filter name='{'x' * 201}'/>", 1, "at most 200"),
        ("<filter name='x' chain='foo'/>", 1, "not a chain"),
        ("<filter name='x' chain='ipv4-much-too-long'/>", 1, "not a chain"),
        ("<filter name='x' priority='1001'/>", 1, "-1000 to 1000"),
        ("<filter name='x'>\n<filterref/>\n</filter>", 2, "needs the name of a filter"),
        ("<filter name='x'>\n<rule direction='in'/></filter>", 2, "action="),
        ("<filter name='x'>\n<rule action='allow' direction='in'/></filter>", 2, "accept, drop"),
        ("<filter name='x'>\n<rule action='drop'/></filter>", 2, "direction="),
        (
            "<filter name='x'>\n<rule action='drop' direction='in' priority='x'/></filter>",
            2,
            "-1000 to 1000",
        ),
        (
            "<filter name='x'>\n\n<rule action='drop' direction='in'>\n<tcp/><udp/></rule>"
            "</filter>",
            3,
            "one protocol",
        ),
        (
            "<filter name='x'>\n<rule action='drop' direction='in'>\n<tcp port='1'/></rule>"
            "</filter>",
            3,
            "no such attribute",
        ),
        (
            "<filter name='x'>\n<rule action='drop' direction='in'>\n"
            "<tcp dstportstart='65536'/></rule></filter>",
            3,
            "from 0 to 65535",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(xml: str, line: int, sentence: str) -> None:
    with pytest.raises(XmlError, match=f"Line {line}: .*{sentence}") as caught:
        nwfilter.checked(xml)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("protocol", "name", "value", "is_right"),
    [
        ("tcp", "srcipaddr", "10.0.0.1", True),
        ("tcp", "srcipaddr", "$IP", True),
        ("tcp", "srcipaddr", "$IP[@2]", True),
        ("tcp", "srcipaddr", "$IP; rm -rf /", False),
        ("tcp", "srcipaddr", "fd00::1", False),
        ("tcp", "srcipaddr", "10.0.0.256", False),
        ("tcp-ipv6", "srcipaddr", "fd00::1", True),
        ("tcp-ipv6", "srcipaddr", "10.0.0.1", False),
        ("ipv6", "dstipmask", "128", True),
        ("ipv6", "dstipmask", "ffff::", True),
        ("tcp", "srcipmask", "33", False),
        ("tcp", "srcipmask", "255.255.0.0", True),
        ("tcp", "srcipmask", "255.0.255.0", False),
        ("mac", "srcmacaddr", "52:54:00:12:34", False),
        ("mac", "protocolid", "0x0600", True),
        ("mac", "protocolid", "ipx", False),
        ("vlan", "vlanid", "4095", True),
        ("vlan", "vlanid", "4096", False),
        ("tcp", "state", "NEW,ESTABLISHED", True),
        ("tcp", "state", "$STATE", False),
        ("tcp", "state", "new", False),
        ("tcp", "flags", "SYN,ACK/SYN", True),
        ("tcp", "flags", "8", False),
        ("stp", "flags", "8", True),
        ("icmp", "type", "256", False),
        ("icmp", "type", "0x1f", True),
        ("icmp", "type", "1f", False),
        ("ip", "protocol", "udp", True),
        ("ip", "protocol", "http", False),
        ("arp", "opcode", "Request", True),
        ("arp", "opcode", "ask", False),
        ("arp", "gratuitous", "maybe", False),
        ("tcp", "ipset", "a b", True),
        ("tcp", "ipset", "a;b", False),
        ("tcp", "ipsetflags", "src,both", False),
        ("udp", "flags", "SYN/SYN", False),
        ("tcp", "dscp", "64", False),
    ],
)
def test_values_are_checked(protocol: str, name: str, value: str, is_right: bool) -> None:
    seconds = {"srcipmask": {"srcipaddr": "$IP"}, "dstipmask": {"dstipaddr": "$IP"}}
    conditions = {**seconds.get(name, {}), name: value}
    assert (name not in flaws(protocol, conditions)) is is_right


def test_a_mask_without_an_address_is_refused() -> None:
    assert flaws("tcp", {"srcipmask": "8"}) == {"srcipaddr": "This is needed beside srcipmask."}


def test_a_wrong_rule_says_at_which_argument() -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({"protocol": "tcp", "conditions": {"srcipaddr": "x"}, "action": "let"})
    assert {error["loc"] for error in caught.value.errors()} == {("conditions",), ("action",)}
    with pytest.raises(ValidationError, match="Choose one of tcp"):
        Rule(protocol="quic")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pairs_are_written_as_one_and_read_back(protocol: str) -> None:
    rule = next(one for one in _every() if one.protocol == protocol)
    typed = joined(protocol, rule.conditions)
    assert split(protocol, typed) == rule.conditions
    assert typed.keys() == {name for name, _label in inputs(protocol)} & typed.keys()
    assert len({label for _name, label in inputs(protocol)}) == len(inputs(protocol))


def test_empty_inputs_are_no_conditions() -> None:
    assert split("tcp", {"srcipaddr": " ", "dstportstart": "80-", "srcportstart": ""}) == {
        "dstportstart": "80"
    }


def test_a_nic_is_given_a_filter_and_freed_of_it() -> None:
    nic = parse("<interface type='bridge'><filterref filter='old'/><mac address='x'/></interface>")
    nwfilter.refer(nic, Reference("new", (("IP", "10.0.0.5"), ("IP", "10.0.0.6"))))
    assert nwfilter.reference_of(nic.findall("filterref")[0]).parameters[1] == ("IP", "10.0.0.6")
    assert len(nic.findall("filterref")) == 1
    nwfilter.refer(nic, None)
    assert nic.find("filterref") is None
