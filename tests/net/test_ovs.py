"""Open vSwitch planned and changed by a helper, on a private one; ovs-vsctl is the witness."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kvmweb.net import ovs
from kvmweb.net.errors import NetError
from kvmweb.net.ovs.offloads import tunnel_mtu
from tests.net.switches import Switches, document
from tests.ovs import OVSDB, VSWITCHD
from tests.waiting import until

EVERYTHING: dict[str, Any] = {
    "switches": [
        {
            "name": "br0",
            "fail_mode": "secure",
            "rstp": True,
            "mcast_snooping": True,
            "controllers": ["tcp:127.0.0.1:6653", "ptcp:6699:127.0.0.1"],
            "protocols": ["OpenFlow10", "OpenFlow13"],
            "other_config": {"mac-table-size": "4096", "hwaddr": "02:00:00:00:00:01"},
            "mtu": 1400,
            "addresses": ["10.97.0.1/24", "fd97::1/64"],
            "ports": [
                {
                    "name": "access",
                    "kind": "internal",
                    "tag": 10,
                    "addresses": ["10.98.0.1/24"],
                    "qos": {
                        "max_rate": 1000000,
                        "queues": [
                            {"id": 0, "max_rate": 500000},
                            {"id": 1, "min_rate": 1000, "priority": 3},
                        ],
                    },
                },
                {
                    "name": "trunk",
                    "kind": "internal",
                    "tag": 7,
                    "trunks": [3, 2, 1],
                    "vlan_mode": "native-untagged",
                    "mtu": 1300,
                },
                {"name": "to1", "kind": "patch", "peer": "to0"},
                {"name": "gre0", "kind": "gre", "remote_ip": "10.0.0.2", "key": "5000"},
                {
                    "name": "vx0",
                    "kind": "vxlan",
                    "remote_ip": "fd00::2",
                    "local_ip": "fd00::1",
                    "key": "77",
                    "dst_port": 4790,
                },
                {"name": "gen0", "kind": "geneve", "remote_ip": "10.0.0.3", "key": "flow"},
            ],
            "mirrors": [
                {
                    "name": "some of it",
                    "select_src_ports": ["access"],
                    "select_dst_ports": ["access", "gre0"],
                    "select_vlans": [10, 11],
                    "output_port": "trunk",
                },
                {"name": "all", "select_all": True, "output_vlan": 99},
            ],
            "netflow": {"targets": ["127.0.0.1:2055"], "active_timeout": 30},
            "sflow": {
                "targets": ["127.0.0.1:6343", "127.0.0.1:6344"],
                "sampling": 64,
                "agent": "lo",
                "polling": 10,
                "header": 128,
            },
            "ipfix": {"targets": ["127.0.0.1:4739"], "sampling": 5},
        },
        {"name": "br1", "stp": True, "ports": [{"name": "to0", "kind": "patch", "peer": "to1"}]},
    ]
}


@pytest.fixture(scope="module")
def switches() -> Iterator[Switches]:
    with Switches() as host:
        yield host


@pytest.fixture
def host(switches: Switches) -> Iterator[Switches]:
    """Nothing is left behind by any test."""
    before = switches.everything()
    yield switches
    assert switches.everything() == before


def _refusal(host: Switches, owned: dict[str, Any] | None = None, **parts: Any) -> NetError:
    with pytest.raises(NetError) as raised:
        host.plan(document(**parts), owned or {})
    return raised.value


def _bridge(*ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"switches": [{"name": "br0", "ports": list(ports), **more}]}


def test_everything_a_document_can_say_is_made_and_removed(host: Switches) -> None:
    with host.having(**EVERYTHING):
        assert host.vsctl("list-br") == "br0\nbr1"
        assert host.vsctl("get", "Bridge", "br0", "datapath_type") == "netdev"
        assert host.vsctl("get-fail-mode", "br0") == "secure"
        assert host.vsctl("get", "Port", "trunk", "trunks", "vlan_mode") == (
            "[1, 2, 3]\nnative-untagged"
        )
        assert host.vsctl("get", "Interface", "vx0", "options:remote_ip") == '"fd00::2"'
        assert "10.97.0.1/24" in host.execute("ip", "-br", "address", "show", "dev", "br0")
        assert "10.98.0.1/24" in host.execute("ip", "-br", "address", "show", "dev", "access")
        assert "rate 1Mbit" in host.execute("tc", "class", "show", "dev", "access")
        assert host.switch("br0")["live"]["datapath_id"] == "0000020000000001"


def test_the_commands_shown_do_the_same(host: Switches) -> None:
    desired = document(**EVERYTHING)
    host.apply(desired, {})
    ours = host.everything()
    forth = host.apply({}, desired)
    for step in host.plan(desired, {})["steps"]:
        for command in step["commands"]:
            host.execute(*command)
    assert host.everything() == ours
    assert any("destroy" in command for command in forth)
    for step in host.plan({}, desired)["steps"]:
        for command in step["commands"]:
            host.execute(*command)


def test_the_commands_of_the_undo_bring_everything_back(host: Switches) -> None:
    desired = document(**EVERYTHING)
    host.apply(desired, {})
    ours = host.dump()
    undo = [step["undo"] for step in reversed(host.plan({}, desired)["steps"])]
    host.apply({}, desired)
    for command in (one for several in undo for one in several):
        host.execute(*command)
    assert host.dump() == ours
    host.apply({}, desired)


def test_a_hundred_ports_are_one_transaction(host: Switches) -> None:
    ports = [{"name": f"p{tag}", "kind": "internal", "tag": tag} for tag in range(1, 101)]
    with host.having(**_bridge(*ports)):
        tags = host.vsctl("--bare", "--columns=tag", "list", "Port").split()
        assert sorted(map(int, tags)) == list(range(1, 101))
        # One for the bridge, one for the ports: they are of different ranks.
        log = (host.directory / "etc/conf.db").read_text()
        assert log.count('"p1"') == log.count('"p100"') == 2  # its port and its interface


@pytest.mark.parametrize(
    ("before", "after", "witness", "says"),
    [
        ({"tag": 10}, {"tag": 20}, ("get", "Port", "p", "tag"), "20"),
        ({"tag": 10}, {}, ("get", "Port", "p", "tag"), "[]"),
        ({}, {"trunks": [5, 4]}, ("get", "Port", "p", "trunks"), "[4, 5]"),
        ({"trunks": [4]}, {"trunks": [4], "vlan_mode": "dot1q-tunnel"},
         ("get", "Port", "p", "vlan_mode"), "dot1q-tunnel"),
        ({}, {"mtu": 1300}, ("get", "Interface", "p", "mtu"), "1300"),
        ({"mtu": 1300}, {}, ("get", "Interface", "p", "mtu_request"), "[]"),
        ({}, {"qos": {"max_rate": 2000000}}, ("--columns=other_config", "list", "QoS"),
         'other_config        : {max-rate="2000000"}'),
        ({"qos": {"max_rate": 1000000, "queues": [{"id": 4}]}}, {}, ("list", "QoS"), ""),
        ({"qos": {"max_rate": 1000000}}, {"qos": {"max_rate": 1000000, "queues": [{"id": 4}]}},
         ("--columns=external_ids", "list", "Queue"),
         'external_ids        : {kvmweb="1", kvmweb-port=p}'),
        ({"addresses": ["10.96.0.1/24"]}, {"addresses": ["10.96.0.2/24"]},
         ("get", "Interface", "p", "admin_state"), "up"),
    ],
)  # fmt: skip
def test_a_port_is_changed_and_changed_back(
    host: Switches, before: Any, after: Any, witness: tuple[str, ...], says: str
) -> None:
    def parts(port: Any) -> Any:
        return _bridge({"name": "p", "kind": "internal", **port})

    with host.changed(before=parts(before), after=parts(after)):
        assert host.vsctl(*witness) == says


@pytest.mark.parametrize(
    ("before", "after", "witness", "says"),
    [
        ({"fail_mode": "secure"}, {}, ("get-fail-mode", "br0"), ""),
        ({}, {"stp": True}, ("get", "Bridge", "br0", "stp_enable"), "true"),
        ({"controllers": ["ptcp:6611"]}, {"controllers": ["ptcp:6612", "ptcp:6611"]},
         ("get-controller", "br0"), "ptcp:6611\nptcp:6612"),
        ({"controllers": ["ptcp:6611"]}, {}, ("get-controller", "br0"), ""),
        ({"other_config": {"hwaddr": "02:00:00:00:00:01", "a": "1"}},
         {"other_config": {"hwaddr": "02:00:00:00:00:02"}},
         ("get", "Bridge", "br0", "other_config"), '{hwaddr="02:00:00:00:00:02"}'),
        ({"netflow": {"targets": ["127.0.0.1:2055"]}}, {"netflow": {"targets": ["127.0.0.1:2056"]}},
         ("--bare", "--columns=targets", "list", "NetFlow"), "127.0.0.1:2056"),
        ({"sflow": {"targets": ["127.0.0.1:6343"]}}, {}, ("list", "sFlow"), ""),
        ({"mirrors": [{"name": "m", "select_all": True, "output_vlan": 9}]},
         {"mirrors": [{"name": "m", "select_vlans": [3], "output_port": "br0"}]},
         ("--bare", "--columns=select_all,select_vlan,output_vlan", "list", "Mirror"), "false\n3"),
        ({"mirrors": [{"name": "m", "select_all": True, "output_vlan": 9}]}, {},
         ("list", "Mirror"), ""),
        ({"ports": [{"name": "br0", "kind": "internal", "tag": 5}]}, {},
         ("get", "Port", "br0", "tag"), "[]"),
        ({"is_up": False}, {"is_up": True}, ("get", "Interface", "br0", "admin_state"), "up"),
        ({"addresses": ["10.96.0.1/24"]}, {"addresses": ["10.96.0.1/24", "fd96::1/64"]},
         ("list-ports", "br0"), ""),
    ],
)  # fmt: skip
def test_a_bridge_is_changed_and_changed_back(
    host: Switches, before: Any, after: Any, witness: tuple[str, ...], says: str
) -> None:
    with host.changed(before=_bridge(**before), after=_bridge(**after)):
        assert host.vsctl(*witness).strip() == says


def test_a_bond_gains_and_loses_members(host: Switches) -> None:
    def bond(*members: str, **more: Any) -> dict[str, Any]:
        port = {"name": "bond0", "interfaces": list(members), "bond_mode": "balance-slb", **more}
        return _bridge(port)

    with (
        host.guest("one") as one,
        host.guest("two") as two,
        host.guest("three") as three,
        host.changed(before=bond(one, two), after=bond(one, three, lacp="active")),
    ):
        assert host.vsctl("list-ifaces", "br0") == f"{one}\n{three}"
        assert host.helper.call("ovs.bond", port="bond0")["mode"] == "balance-slb"
        assert host.port("bond0")["lacp"] == "active"


def test_a_tunnels_options_are_changed_and_others_left_alone(host: Switches) -> None:
    def tunnel(**more: Any) -> dict[str, Any]:
        return _bridge({"name": "t", "kind": "vxlan", "remote_ip": "10.0.0.2", **more})

    desired = document(**tunnel(key="5"))
    host.apply(desired, {})
    host.vsctl("set", "Interface", "t", "options:ttl=9")
    host.apply(document(**tunnel(dst_port=4790)), desired)
    options = host.vsctl("get", "Interface", "t", "options")
    assert options == '{dst_port="4790", remote_ip="10.0.0.2", ttl="9"}'
    host.apply({}, document(**tunnel(dst_port=4790)))


def test_a_port_moves_from_one_bridge_to_another(host: Switches) -> None:
    def at(first: list[Any], second: list[Any]) -> dict[str, Any]:
        return {"switches": [{"name": "br0", "ports": first}, {"name": "br1", "ports": second}]}

    port = {"name": "p", "kind": "internal", "tag": 3, "qos": {"max_rate": 1000000}}
    with host.changed(before=at([port], []), after=at([], [port])):
        assert host.vsctl("iface-to-br", "p") == "br1"


def test_what_others_made_stays(host: Switches) -> None:
    """A machine's port in our bridge, a bridge with a port and a mirror beside it."""
    host.vsctl("add-br", "foreign", "--", "set", "Bridge", "foreign", "datapath_type=netdev")
    host.vsctl("add-port", "foreign", "fp", "--", "set", "Interface", "fp", "type=internal")
    desired = document(**_bridge({"name": "p", "kind": "internal"}))
    host.apply(desired, {})
    host.vsctl("add-port", "br0", "vnet7", "tag=5", "--", "set", "Interface", "vnet7",
               "type=internal", "external_ids:vm-id=4a7b")  # fmt: skip
    host.apply(document(**_bridge()), desired)
    assert host.vsctl("list-ports", "br0") == "vnet7"
    refusal = _refusal(host, desired)
    assert "br0 can't be removed while machines are plugged in: vnet7" in refusal.sentence
    host.vsctl("del-port", "br0", "vnet7")
    host.apply({}, document(**_bridge()))
    assert host.vsctl("list-br") == "foreign"
    assert host.vsctl("list-ports", "foreign") == "fp"
    host.vsctl("del-br", "foreign")


def test_a_bridge_of_others_is_changed_but_not_removed(host: Switches) -> None:
    host.vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev")
    host.vsctl("add-port", "br0", "fp", "--", "set", "Interface", "fp", "type=internal")
    before = host.dump()
    with host.having(
        **_bridge(
            {"name": "fp", "kind": "internal", "qos": {"max_rate": 1000000}},
            {"name": "p", "kind": "internal", "addresses": ["10.96.0.1/24"]},
            is_up=False,
            mirrors=[{"name": "m", "select_all": True, "output_port": "p"}],
            netflow={"targets": ["127.0.0.1:2055"]},
        )
    ):
        assert host.vsctl("list-ports", "br0") == "fp\np"
    assert host.dump() == before
    host.vsctl("del-br", "br0")


def test_a_mirror_forgets_ports_that_are_gone_and_gets_them_back(host: Switches) -> None:
    parts = _bridge(
        {"name": "spy", "kind": "internal"},
        mirrors=[{"name": "m", "select_src_ports": ["vnet7"], "output_port": "spy"}],
    )
    with host.having(**parts):
        host.vsctl("add-port", "br0", "vnet7", "--", "set", "Interface", "vnet7", "type=internal")
        steps = host.plan(document(**parts), document(**parts))["steps"]
        assert len(steps) == 1
        host.apply(document(**parts), document(**parts))
        assert host.switch("br0")["mirrors"][0]["select_src_port"] == ["vnet7"]
        host.vsctl("del-port", "br0", "vnet7")
        assert not host.plan(document(**parts), document(**parts))["steps"]


def test_drift_is_planned_back(host: Switches) -> None:
    parts = _bridge({"name": "p", "kind": "internal", "tag": 10})
    with host.having(**parts):
        host.vsctl("set", "Port", "p", "tag=11")
        host.vsctl("set", "Bridge", "br0", "stp_enable=true")
        commands = host.apply(document(**parts), document(**parts))
        assert ["ovs-vsctl", "set", "Port", "p", "tag=10"] in commands
        assert ["ovs-vsctl", "set", "Bridge", "br0", "stp_enable=false"] in commands


def test_a_failure_undoes_all_and_names_the_step(host: Switches) -> None:
    """The second tunnel's options are the first one's: ovs-vswitchd only finds that out itself."""
    before = host.everything()
    same = {"kind": "vxlan", "remote_ip": "10.0.0.2", "key": "5"}
    desired = document(**_bridge({"name": "t1", **same}, {"name": "t2", **same}))
    with pytest.raises(NetError) as raised:
        host.apply(desired, {})
    sentence = raised.value.sentence
    assert "Open vSwitch can't use t2" in sentence or "Open vSwitch can't use t1" in sentence
    assert "All is as it was before." in sentence
    assert host.everything() == before


def test_policing_that_the_kernel_lacks_is_no_silent_success(host: Switches) -> None:
    parts = _bridge({"name": "p", "kind": "internal", "policing_rate": 1000})
    if _can_police(host):
        with host.having(**parts):
            assert "police" in host.execute("tc", "filter", "show", "dev", "p", "parent", "ffff:")
    else:
        with pytest.raises(NetError) as raised:
            host.apply(document(**parts), {})
        assert "This host's kernel can't police p" in raised.value.sentence


def _can_police(host: Switches) -> bool:
    """As ovs-vswitchd would do it."""
    rule = ("basic", "police", "rate", "1mbit", "burst", "10k", "drop")
    host.execute("ip", "link", "add", "tried", "type", "veth", "peer", "other")
    host.execute("tc", "qdisc", "add", "dev", "tried", "ingress")
    words = ["tc", "filter", "add", "dev", "tried", "parent", "ffff:", "protocol", "all", *rule]
    done = subprocess.run([*host.enter, *words], check=False, capture_output=True, timeout=30)
    host.execute("ip", "link", "delete", "tried")
    return done.returncode == 0


@pytest.mark.parametrize(
    ("parts", "field", "words"),
    [
        ({"name": "lo"}, "switches.0.name", "There is an interface “lo” already."),
        ({"name": "br0", "datapath_type": "system"}, "switches.0.datapath_type", "use netdev"),
        ({"name": "br0", "ports": [{"name": "nix0"}]}, "switches.0.ports.0.name",
         "There is no interface “nix0” on this host."),
        ({"name": "br0", "ports": [{"name": "b", "interfaces": ["nix1", "nix2"]}]},
         "switches.0.ports.0.interfaces.0", "There is no interface “nix1”"),
        ({"name": "br0", "uplink": "nix0"}, "switches.0.uplink", "There is no interface “nix0”"),
        ({"name": "br0", "ports": [{"name": "p", "kind": "internal",
                                    "qos": {"type": "linux-hfsc", "max_rate": 5}}]},
         "switches.0.ports.0.qos", "can't limit rates by hfsc"),
        ({"name": "br0", "ports": [{"name": "fp", "kind": "internal"}]},
         "switches.0.ports.0.name", "“fp” is a port of foreign: take it out there first."),
        ({"name": "br0", "ports": [{"name": "in-linux"}]},
         "switches.0.ports.0.name", "“in-linux” is a port of lin0: take it out there first."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_its_field(
    host: Switches, parts: Any, field: str, words: str
) -> None:
    host.vsctl("add-br", "foreign", "--", "set", "Bridge", "foreign", "datapath_type=netdev")
    host.vsctl("add-port", "foreign", "fp", "--", "set", "Interface", "fp", "type=internal")
    host.execute("ip", "link", "add", "lin0", "type", "bridge")
    host.execute("ip", "link", "add", "in-linux", "master", "lin0", "type", "veth", "peer", "other")
    try:
        refusal = _refusal(host, switches=[parts])
    finally:
        host.vsctl("del-br", "foreign")
        host.execute("ip", "link", "delete", "in-linux")
        host.execute("ip", "link", "delete", "lin0")
    assert words in refusal.sentence
    assert refusal.field == field


def test_a_port_is_in_one_bridge_only(host: Switches) -> None:
    port = {"name": "p", "kind": "internal"}
    refusal = _refusal(
        host, switches=[{"name": "br0", "ports": [port]}, {"name": "br1", "ports": [port]}]
    )
    assert refusal.sentence == "“p” is a port of br0 already."
    assert refusal.field == "switches.1.ports.0.name"


def test_shell_words_stay_words(host: Switches) -> None:
    mirror = {"name": 'a"; touch /tmp/owned; $(b) `c`', "select_all": True, "output_vlan": 4}
    config = {"note": "x; rm -rf /, {y}=[z] \\ 'q' \"r\" ü"}
    parts = _bridge(mirrors=[mirror], other_config=config)
    with host.having(**parts):
        assert host.switch("br0")["other_config"] == config
        assert host.switch("br0")["mirrors"][0]["name"] == mirror["name"]
        steps = host.plan(document(**parts), {})["steps"]
    before = host.everything()
    for step in host.plan(document(**parts), {})["steps"]:
        for command in step["commands"]:
            host.execute(*command)
    assert host.switch("br0")["other_config"] == config
    host.apply({}, document(**parts))
    assert host.everything() == before
    assert not steps


def test_a_hanging_vswitchd_is_a_sentence_in_time(host: Switches) -> None:
    parts = _bridge()
    with host.having(**parts):
        with host.frozen(VSWITCHD):
            state = host.read()
            assert [one["name"] for one in state["switches"]] == ["br0"]
            assert not state["ovs"]["is_running"]
            assert "ovs-vswitchd is there but does not answer" in state["ovs"]["problem"]
            # Nothing to do needs no daemon; anything else does.
            assert not host.plan(document(**parts), document(**parts))["steps"]
            refusal = _refusal(host, document(**parts), **_bridge(stp=True))
            assert "does not answer" in refusal.sentence
        assert host.read()["ovs"]["is_running"]


def test_a_vswitchd_that_ends_is_a_sentence(host: Switches) -> None:
    with host.having(**_bridge()):
        host.kill(VSWITCHD)
        assert "ovs-vswitchd does not run on this host" in host.read()["ovs"]["problem"]
        assert host.read()["ovs"]["present"]
        host.start()
        until(lambda: host.switch("br0")["live"].get("datapath_id"), what="br0 to be back")


def test_a_hanging_or_missing_database_is_a_sentence_in_time(host: Switches) -> None:
    with host.frozen(OVSDB):
        state = host.read()
        assert "ovsdb-server is there but does not answer" in state["ovs"]["problem"]
        assert "does not answer" in _refusal(host, **_bridge()).sentence
    host.kill(OVSDB)
    state = host.read()
    assert not state["ovs"]["present"]
    assert "ovsdb-server does not run on this host" in state["ovs"]["problem"]
    assert host.plan(document(), document())["steps"] == []
    assert "ovsdb-server does not run" in _refusal(host, **_bridge()).sentence
    host.start()


def test_the_site_hears_of_changes_and_of_ends(host: Switches) -> None:
    host.helper.call("watch")
    until(lambda: "ovs" in host.heard, what="the first news")

    def hears(*words: str) -> None:
        host.heard.clear()
        host.vsctl(*words)
        until(lambda: "ovs" in host.heard, seconds=2, what=f"news of {words}")

    hears("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev")
    hears("set", "Port", "br0", "tag=5")
    host.kill(OVSDB)
    host.heard.clear()
    host.start()
    until(lambda: "ovs" in host.heard, seconds=3, what="news of a restart")
    hears("set", "Port", "br0", "tag=6")
    host.heard.clear()
    host.kill(VSWITCHD)
    until(lambda: "ovs" in host.heard, seconds=2, what="news of the daemon's end")
    host.start()
    hears("del-br", "br0")


def test_the_mtu_under_a_tunnel_leaves_room_for_it() -> None:
    assert [tunnel_mtu(kind) for kind in ("gre", "vxlan", "geneve")] == [1450, 1400, 1400]
    assert tunnel_mtu("gre", 1450) == 1400
    assert tunnel_mtu("vxlan", 9000) == 8900
    assert tunnel_mtu("vxlan", 1500, is_ipv6=True) == 1400


def test_machines_in_a_userspace_bridge_finish_their_checksums(host: Switches) -> None:
    with host.having(**_bridge()):
        state = host.read()
        assert ovs.needs_checksum_off(state, "br0")
        assert not ovs.needs_checksum_off(state, "br1")
