"""Security groups and the network filters they become: ``security/<name>.json`` are rules, and
``<name>.xml`` is the filter. ``KVMWEB_GOLDEN=write pytest tests/spec`` writes those anew.
"""

import json
import os
from pathlib import Path

import pytest
from lxml import etree
from pydantic import TypeAdapter, ValidationError

from kvmweb.spec import nwfilter, security
from kvmweb.spec.nwfilter import Filter, Reference
from kvmweb.spec.security import Rule, Rules
from kvmweb.spec.xml import parse

GOLDEN = Path(__file__).with_name("security")
SCHEMA = Path("/usr/share/libvirt/schemas/nwfilter.rng")
GROUPS = sorted(path.stem for path in GOLDEN.glob("*.json"))
MEMBERS = {"web": ["10.0.1.4", "10.0.1.5", "10.0.1.9", "fd00::5", "127.0.0.1", "224.0.0.1"]}


def _compiled(name: str) -> str:
    given = json.loads((GOLDEN / f"{name}.json").read_text())
    rules = TypeAdapter(Rules).validate_python(given)
    return security.compiled(name, rules, MEMBERS)


@pytest.mark.parametrize("name", GROUPS)
def test_its_rules_become_that_filter(name: str) -> None:
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("KVMWEB_GOLDEN") == "write":
        golden.write_text(_compiled(name))
    assert _compiled(name) == golden.read_text()


@pytest.mark.parametrize("name", GROUPS)
def test_the_filter_is_right_to_us_and_to_libvirt(name: str) -> None:
    xml = _compiled(name)
    nwfilter.checked(xml)
    etree.RelaxNG(etree.parse(SCHEMA)).assertValid(parse(xml))


def test_neighbouring_addresses_become_one_network() -> None:
    xml = security.compiled("db", [Rule(ports="5432", group="web")], MEMBERS)
    found = [rule.source for rule in Filter(parse(xml)).rules if rule.destination_ports == "5432"]
    assert found == ["10.0.1.4/31", "10.0.1.9/32", "fd00::5/128"]


def test_a_group_without_members_lets_nobody_in() -> None:
    xml = security.compiled("db", [Rule(protocol="any", group="nobody")], MEMBERS)
    assert xml == security.compiled("db", [], {})


def test_what_is_not_allowed_is_dropped_last() -> None:
    for name in GROUPS:
        *others, v4, v6 = Filter(parse(_compiled(name))).rules
        assert (v4.action, v4.protocol, v6.protocol) == ("drop", "all", "all-ipv6")
        assert {rule.action for rule in others} == {"accept"}
        assert all(rule.priority < v4.priority for rule in others)


@pytest.mark.parametrize(
    ("fields", "where", "sentence"),
    [
        ({"ports": "80-"}, "ports", "neither a port nor a range"),
        ({"ports": "0"}, "ports", "neither a port nor a range"),
        ({"ports": "65536"}, "ports", "neither a port nor a range"),
        ({"ports": "90-80"}, "ports", "neither a port nor a range"),
        ({"ports": "80; reboot"}, "ports", "neither a port nor a range"),
        ({"ports": ",".join(map(str, range(1, 17)))}, "ports", "at most 15"),
        ({"subnet": "10.0.1.5/24"}, "subnet", "Did you mean 10.0.1.0/24?"),
        ({"subnet": "10.0.1"}, "subnet", "neither a network nor an address"),
        ({"subnet": "anywhere"}, "subnet", "neither a network nor an address"),
        ({"protocol": "gre"}, "protocol", ""),
        ({"direction": "both"}, "direction", ""),
        ({"ports": "80", "protocol": "icmp"}, "ports", "Only TCP and UDP have ports"),
        ({"subnet": "10.0.0.0/8", "group": "web"}, "group", "either a subnet or"),
        ({"action": "drop"}, "action", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    fields: dict[str, str], where: str, sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate(fields)
    (error,) = caught.value.errors()
    assert error["loc"] == (where,)
    assert sentence in error["msg"]


def test_texts_are_put_into_one_form() -> None:
    rule = Rule(ports=" 80,443 , 8000 - 8100", subnet="10.0.1.7")
    assert (rule.ports, rule.subnet) == ("80, 443, 8000-8100", "10.0.1.7/32")
    assert Rule(subnet="0.0.0.0/0").subnet == "0.0.0.0/0"


@pytest.mark.parametrize("name", ["", "Web", "-a", "a b", "a/b", "$(id)", "a-", "ü"])
def test_names_that_no_filter_could_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        security.checked_name(name)
    assert security.checked_name("web-1.prod_a") == "web-1.prod_a"


def test_one_group_is_its_own_filter_and_several_are_joined() -> None:
    assert security.combined(["web"], is_spoofing_prevented=False) == ("kvmweb-sg-web", "")
    name, xml = security.combined(["web", "db", "web"], is_spoofing_prevented=False)
    assert security.combined(["db", "web"], is_spoofing_prevented=False) == (name, xml)
    assert Filter(parse(xml)).references == [
        Reference("kvmweb-sg-db"),
        Reference("kvmweb-sg-web"),
    ]
    safe, xml = security.combined(["web", "db"], is_spoofing_prevented=True)
    assert safe != name
    references = [reference.filter for reference in Filter(parse(xml)).references]
    assert references[-1] == "clean-traffic"
    assert security.membership(safe, references) == (["db", "web"], True)
    assert security.membership("kvmweb-sg-web", []) == (["web"], False)
    assert security.membership("clean-traffic", ["no-mac-spoofing"]) == ([], False)


def test_a_filter_is_ours_by_its_uuid_and_not_by_its_name() -> None:
    name = security.filter_name("web")
    assert security.is_ours(name, security.filter_uuid(name))
    assert not security.is_ours(name, "5e0f6d1c-2b0e-4a2e-9f43-6f2f6b1f6a11")
    assert not security.is_ours("mine", security.filter_uuid("mine"))
