"""Changes to the document of a host's network, and three versions brought together."""

from typing import Any

import yaml

from kvmweb.spec import hostnet_edits as edits
from kvmweb.spec.hostnet import HostNetwork


def _bridge(name: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "bridge", "name": name, **fields}


def test_two_who_add_different_things_both_keep_theirs() -> None:
    base = {"links": [_bridge("a")]}
    theirs = {"links": [_bridge("a"), _bridge("b")]}
    mine = {"links": [_bridge("a"), _bridge("c")]}
    merged, conflicts = edits.rebased(base, theirs, mine)
    assert [link["name"] for link in merged["links"]] == ["a", "b", "c"]
    assert conflicts == []


def test_what_one_removed_stays_removed() -> None:
    base = {"links": [_bridge("a"), _bridge("b")], "routes": []}
    theirs = {"links": [_bridge("b")], "routes": []}
    mine = {"links": [_bridge("a"), _bridge("b", mtu=1400)], "routes": []}
    merged, conflicts = edits.rebased(base, theirs, mine)
    assert merged["links"] == [_bridge("b", mtu=1400)]
    assert conflicts == []


def test_different_fields_of_one_link_are_brought_together() -> None:
    base = {"links": [_bridge("a", mtu=1500, stp=False)]}
    theirs = {"links": [_bridge("a", mtu=9000, stp=False)]}
    mine = {"links": [_bridge("a", mtu=1500, stp=True)]}
    merged, conflicts = edits.rebased(base, theirs, mine)
    assert merged["links"] == [_bridge("a", mtu=9000, stp=True)]
    assert conflicts == []


def test_where_both_changed_the_same_mine_counts_and_is_named() -> None:
    base = {"links": [_bridge("a", mtu=1500)]}
    theirs = {"links": [_bridge("a", mtu=9000)]}
    mine = {"links": [_bridge("a", mtu=1400)]}
    merged, conflicts = edits.rebased(base, theirs, mine)
    assert merged["links"] == [_bridge("a", mtu=1400)]
    assert conflicts == ["links.a.mtu"]


def test_what_one_changed_and_the_other_removed_is_named() -> None:
    base = {"links": [_bridge("a", mtu=1500)]}
    merged, conflicts = edits.rebased(base, {"links": []}, {"links": [_bridge("a", mtu=9)]})
    assert merged["links"] == [_bridge("a", mtu=9)]
    assert conflicts == ["links.a"]


def test_ports_of_one_switch_are_told_apart() -> None:
    def switch(*ports: str) -> dict[str, Any]:
        return {"switches": [{"name": "br-int", "ports": [{"name": port} for port in ports]}]}

    merged, conflicts = edits.rebased(switch("a"), switch("a", "b"), switch("a", "c"))
    assert merged == switch("a", "b", "c")
    assert conflicts == []


def test_entries_that_cannot_be_told_apart_are_not_lost() -> None:
    base = {"routes": [{"to": "10.0.0.0/8", "via": "1.1.1.1"}, {"to": "10.0.0.0/8", "dev": "a"}]}
    mine = {"routes": [*base["routes"], {"to": "default", "dev": "b"}]}
    merged, conflicts = edits.rebased(base, {"routes": base["routes"][:1]}, mine)
    assert merged == mine
    assert conflicts == ["routes"]


def test_members_come_and_go() -> None:
    document = {"links": [_bridge("br"), {"kind": "dummy", "name": "d", "master": "br"}]}
    after = edits.with_members(document, "br", ["eth0"])
    assert after["links"] == [
        _bridge("br"),
        {"kind": "dummy", "name": "d", "master": None},
        {"kind": "physical", "name": "eth0", "master": "br"},
    ]
    HostNetwork.model_validate(after)


def test_a_pair_goes_together_and_leaves_no_port_of_what_is_gone() -> None:
    document = {
        "links": [
            {"kind": "veth", "name": "a", "peer": "b"},
            {"kind": "veth", "name": "b", "peer": "a"},
            _bridge("br"),
            {"kind": "dummy", "name": "d", "master": "br"},
        ]
    }
    assert [one["name"] for one in edits.without_link(document, "a")["links"]] == ["br", "d"]
    left = edits.without_link(document, "br")["links"]
    assert left[-1] == {"kind": "dummy", "name": "d", "master": None}


def test_yaml_says_what_the_document_says() -> None:
    document = HostNetwork.model_validate(
        {"links": [_bridge("br-ü", addresses=["10.0.0.1/24"])], "routes": [{"to": "default"}]}
    )
    text = edits.to_yaml(document.without_defaults())
    assert "br-ü" in text
    assert HostNetwork.model_validate(yaml.safe_load(text)) == document
    assert edits.to_yaml(HostNetwork().without_defaults()) == ""


def test_equal_documents_have_equal_digests() -> None:
    assert edits.digest({"a": 1, "b": 2}) == edits.digest({"b": 2, "a": 1})
    assert edits.digest({"a": 1}) != edits.digest({"a": 2})
