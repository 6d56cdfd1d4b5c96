"""What a helper answers about Open vSwitch; the witness are its own commands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmweb.net.errors import NetError
from tests.net.switches import Switches
from tests.ovs import SCHEMA, VSWITCHD


@pytest.fixture(scope="module")
def host() -> Iterator[Switches]:
    """With a bridge that speaks OpenFlow 1.3 only."""
    with Switches() as switches:
        switches.vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev",
                       "protocols=OpenFlow13", "--", "add-port", "br0", "p1", "tag=3",
                       "--", "set", "Interface", "p1", "type=internal")  # fmt: skip
        yield switches


def _refusal(host: Switches, call: str, **arguments: Any) -> NetError:
    with pytest.raises(NetError) as raised:
        host.helper.call(call, **arguments)
    return raised.value


def test_flows_are_told_with_what_they_match_and_do(host: Switches) -> None:
    flow = "cookie=0x5,table=2,priority=10,idle_timeout=60,send_flow_rem,in_port=p1,dl_vlan=5,ip"
    actions = "actions=set_field:5->reg1,output:1,resubmit(,3)"
    host.execute("ovs-ofctl", "-O", "OpenFlow13", "add-flow", "br0", f"{flow},{actions}")
    host.execute("ovs-ofctl", "-O", "OpenFlow13", "add-flow", "br0", "table=2,actions=drop")
    usual, default, special = host.helper.call("ovs.flows", bridge="br0")
    assert (usual["table"], usual["priority"], usual["match"]) == (0, 0, "")
    assert usual["actions"] == "NORMAL"
    assert (special["table"], special["priority"], special["cookie"]) == (2, 10, "0x5")
    assert special["match"] == "ip,in_port=p1,dl_vlan=5"
    assert special["actions"] == "set_field:0x5->reg1,output:p1,resubmit(,3)"
    assert (special["idle_timeout"], special["flags"]) == (60, ["send_flow_rem"])
    assert special["n_packets"] == 0
    assert special["seconds"] > 0
    # Without a number of its own it has OpenFlow's usual priority.
    assert (default["priority"], default["actions"]) == (32768, "drop")


def test_a_trace_tells_where_a_packet_would_go(host: Switches) -> None:
    told = host.helper.call("ovs.trace", bridge="br0", flow="in_port=p1,icmp")
    assert 'bridge("br0")' in told
    assert "Datapath actions" in told
    refusal = _refusal(host, "ovs.trace", bridge="br0", flow="in_port=p1; rm -rf /")
    assert "ovs-vswitchd" in refusal.sentence


@pytest.mark.parametrize("call", ["ovs.flows", "ovs.fdb", "ovs.trace"])
@pytest.mark.parametrize("name", ["nix", "../../etc/passwd", "-h", "br0; id"])
def test_a_bridge_that_is_not_there_is_a_sentence(host: Switches, call: str, name: str) -> None:
    more = {"flow": "icmp"} if call == "ovs.trace" else {}
    refusal = _refusal(host, call, bridge=name, **more)
    assert refusal.sentence == f"There is no bridge “{name}” on this host."
    assert refusal.field == "bridge"


def test_a_bond_that_is_not_there_is_a_sentence(host: Switches) -> None:
    assert "no such bond" in _refusal(host, "ovs.bond", port="nix").sentence


def test_every_table_is_listed_with_its_columns(host: Switches) -> None:
    schema = json.loads(Path(SCHEMA).read_text())["tables"]
    tables = {one["name"]: one for one in host.helper.call("ovs.tables")}
    assert tables.keys() == schema.keys()
    for name, table in tables.items():
        assert {one["name"] for one in table["columns"]} == schema[name]["columns"].keys()
    assert (tables["Bridge"]["rows"], tables["Port"]["rows"]) == (1, 2)
    types = {one["name"]: one["type"] for one in tables["Port"]["columns"]}
    assert types["tag"] == "integer or nothing"
    assert types["trunks"] == "set of integer"
    assert types["interfaces"] == "set of Interface"
    assert types["external_ids"] == "map of string to string"
    assert types["name"] == "string"


def test_a_table_is_told_by_the_page(host: Switches) -> None:
    page = host.helper.call("ovs.table", table="Port")
    assert page["total"] == 2
    assert [row["name"] for row in page["rows"]] == ["br0", "p1"]
    (interface,) = page["rows"][1]["interfaces"]
    assert page["names"][interface] == {"table": "Interface", "name": "p1"}
    assert page["rows"][1]["tag"] == 3
    assert page["rows"][0]["tag"] is None
    second = host.helper.call("ovs.table", table="Port", limit=1, offset=1)
    assert [row["name"] for row in second["rows"]] == ["p1"]
    assert host.helper.call("ovs.table", table="Port", offset=9)["rows"] == []
    refusal = _refusal(host, "ovs.table", table="Nix")
    assert refusal.sentence == "Open vSwitch has no table “Nix”."


def test_secrets_are_not_told(host: Switches) -> None:
    host.vsctl("set", "Interface", "p1", "options:psk=swordfish")
    page = host.helper.call("ovs.table", table="Interface")
    assert "swordfish" not in str(page)
    assert "swordfish" not in str(host.helper.call("ovs.tunnels"))


def test_a_hanging_vswitchd_is_a_sentence_in_time(host: Switches) -> None:
    with host.frozen(VSWITCHD):
        for call in ("ovs.fdb", "ovs.flows"):
            sentence = _refusal(host, call, bridge="br0").sentence
            assert "does not answer" in sentence or "did not end within 5 s" in sentence
        assert host.helper.call("ovs.table", table="Port")["total"] == 2


def test_a_read_tells_versions_and_what_ovs_vswitchd_made(host: Switches) -> None:
    state = host.read()
    assert [one["name"] for one in state["switches"][0]["ports"]] == ["br0", "p1"]
    interface = state["switches"][0]["ports"][1]["interfaces"][0]
    assert interface["live"]["ofport"] == 1
    assert interface["type"] == "internal"
    assert state["ovs"]["version"] == host.execute("ovs-vswitchd", "--version").split()[3]
    assert "netdev" in state["ovs"]["datapaths"]
