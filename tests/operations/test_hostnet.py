"""A host's own network, planned, applied, confirmed and undone on a real kernel."""

from typing import Any

import pytest

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import ChangeState, Host, HostNetwork, JobState, NetworkChange, Role, User
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Conflict, Forbidden, Invalid
from tests.hostnet import BRIDGE, NOWHERE, OwnNetwork, whole

LAB = {"links": [BRIDGE]}
UPLINK = {"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]}


@pytest.fixture
def alice(db: None) -> User:
    """Without a password, for hashing one takes longer than most tests here."""
    return User.objects.create(username="alice", role=Role.ADMINISTRATOR)


@pytest.fixture
def nowhere(db: None) -> Host:
    """A host that is never asked."""
    return Host.objects.create(name="nowhere", uri=NOWHERE)


def _link(**fields: Any) -> dict[str, Any]:
    return {"links": [{"kind": "bridge", "name": "br-lab", **fields}]}


def test_a_plan_says_what_would_be_done_and_does_nothing(network: OwnNetwork, alice: User) -> None:
    job = network.plan(alice, LAB)
    commands = [command for step in job.result["steps"] for command in step["commands"]]
    assert ["ip", "link", "add", "name", "br-lab", "type", "bridge"] in commands
    assert job.result["before"] == whole({})
    assert not job.result["is_risky"]
    assert not network.has("br-lab")
    assert not job.commands


def test_what_is_applied_is_there_and_is_what_is_wanted(network: OwnNetwork, alice: User) -> None:
    job = network.apply(alice, LAB)
    assert job.state == JobState.DONE
    assert "10.5.5.1/24" in network.own.execute("ip", "address", "show", "br-lab")
    assert network.row.desired == whole(LAB)
    assert network.last.state == ChangeState.APPLIED
    assert str(network.last.pk) == job.result["change"]
    assert ["ip", "link", "add", "name", "br-lab", "type", "bridge"] in job.commands
    assert network.plan(alice, LAB).result["steps"] == []


def test_undo_takes_back_the_last_change_and_undo_again_brings_it(
    network: OwnNetwork, alice: User
) -> None:
    network.apply(alice, LAB)
    first = network.last
    assert network.run(hostnet.undo, alice).state == JobState.DONE
    assert not network.has("br-lab")
    first.refresh_from_db()
    assert first.state == ChangeState.UNDONE
    assert network.row.desired == whole({})
    assert network.run(hostnet.undo, alice).state == JobState.DONE
    assert network.has("br-lab")


def test_without_a_change_there_is_nothing_to_undo(network: OwnNetwork, alice: User) -> None:
    with pytest.raises(Conflict, match="Nothing was applied yet"):
        hostnet.undo.submit(alice, network.host)


def test_moving_the_uplink_waits_for_somebody_to_keep_it(network: OwnNetwork, alice: User) -> None:
    plan = network.plan(alice, UPLINK)
    assert plan.result["is_risky"]
    assert plan.result["reasons"] == ["eth0 carries the default route."]
    network.apply(alice, UPLINK)
    assert network.own.is_reachable()
    assert network.last.state == ChangeState.UNCONFIRMED
    assert network.last.deadline is not None
    assert network.row.desired == {}
    with pytest.raises(Conflict, match="still waits"):
        hostnet.apply.submit(alice, network.host, {"document": {}, "digest": ""})
    assert network.run(hostnet.confirm, alice).state == JobState.DONE
    assert network.last.state == ChangeState.APPLIED
    assert network.row.desired == whole(UPLINK)
    assert network.own.is_reachable()


def test_a_change_that_waits_can_be_put_back_at_once(network: OwnNetwork, alice: User) -> None:
    before = network.own.dump()
    network.apply(alice, UPLINK)
    assert network.run(hostnet.revert, alice).state == JobState.DONE
    assert network.last.state == ChangeState.REVERTED
    assert "alice" in network.last.note
    assert network.own.dump() == before


def test_keeping_it_too_late_says_so(
    network: OwnNetwork, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostnet, "CONFIRM_SECONDS", 0.1)
    before = network.own.dump()
    network.apply(alice, UPLINK)
    network.client.call("revert", token=network.last.token)  # as the timer does
    job = network.run(hostnet.confirm, alice)
    assert job.state == JobState.FAILED
    assert "Too late" in job.error
    assert network.last.state == ChangeState.REVERTED
    assert network.own.dump() == before


def test_without_a_change_there_is_nothing_to_keep(network: OwnNetwork, alice: User) -> None:
    for operation in (hostnet.confirm, hostnet.revert):
        with pytest.raises(Conflict, match="No change waits"):
            operation.submit(alice, network.host)


class TestTwoAdministrators:
    def test_the_second_is_told_that_the_ground_has_moved(
        self, network: OwnNetwork, alice: User
    ) -> None:
        mine = {"links": [{"kind": "bridge", "name": "br-mine"}]}
        plan = network.plan(alice, mine)
        network.apply(alice, LAB)
        job = network.run(hostnet.apply, alice, document=mine, digest=plan.result["digest"])
        assert job.state == JobState.FAILED
        assert job.error_field == "digest"
        assert "The ground has moved" in job.error
        assert network.has("br-lab")
        assert not network.has("br-mine")

    def test_somebody_at_a_shell_moves_the_ground_as_well(
        self, network: OwnNetwork, alice: User
    ) -> None:
        plan = network.plan(alice, LAB)
        network.own.execute("ip", "link", "add", "br-lab", "type", "bridge")
        try:
            job = network.run(hostnet.apply, alice, document=LAB, digest=plan.result["digest"])
        finally:
            network.own.execute("ip", "link", "delete", "br-lab")
        assert job.state == JobState.FAILED
        assert not NetworkChange.objects.exists()


class TestDrift:
    @pytest.fixture(autouse=True)
    def _lab(self, network: OwnNetwork, alice: User) -> None:
        network.apply(alice, LAB)

    def test_it_is_seen_and_put_back(self, network: OwnNetwork, alice: User) -> None:
        network.own.execute("ip", "address", "del", "10.5.5.1/24", "dev", "br-lab")
        drift = network.read().drift
        assert [command[:3] for step in drift for command in step["commands"]] == [
            ["ip", "address", "add"]
        ]
        assert network.run(hostnet.put_back, alice).state == JobState.DONE
        assert "10.5.5.1/24" in network.own.execute("ip", "address", "show", "br-lab")
        assert network.read().drift == []

    def test_it_is_taken_over(self, network: OwnNetwork, alice: User) -> None:
        network.own.execute("ip", "address", "del", "10.5.5.1/24", "dev", "br-lab")
        network.own.execute("ip", "address", "add", "10.6.6.1/24", "dev", "br-lab")
        network.own.execute("ip", "link", "set", "br-lab", "type", "bridge", "stp_state", "1")
        assert network.read().drift
        assert network.run(hostnet.take_over, alice).state == JobState.DONE
        assert network.row.desired == whole(_link(addresses=["10.6.6.1/24"], stp=True))
        assert network.read().drift == []

    def test_what_is_gone_is_taken_over_as_gone(self, network: OwnNetwork, alice: User) -> None:
        network.own.execute("ip", "link", "delete", "br-lab")
        network.read()
        network.run(hostnet.take_over, alice)
        assert network.row.desired == whole({})
        assert network.run(hostnet.undo, alice).state == JobState.DONE
        assert network.has("br-lab")

    def test_without_any_there_is_nothing_to_do(self, network: OwnNetwork, alice: User) -> None:
        network.read()
        for operation in (hostnet.put_back, hostnet.take_over):
            with pytest.raises(Conflict, match="Nothing differs"):
                operation.submit(alice, network.host)


SHELL = ["$(reboot)", "`id`", "a;id", "a|id", "a&id", "a>b", "'\"", "a\\b", "*", "{a,b}", "~root"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("link", "field", "sentence"),
        [
            ({"name": "sixteen-letters-"}, "name", "at most 15 bytes"),
            ({"name": "with/slash"}, "name", "no slash"),
            ({"name": "with space"}, "name", "no slash, colon or space"),
            ({"name": ""}, "name", "1 to 15"),
            ({"name": "-a"}, "name", "begin with"),
            ({"name": "a", "mtu": 7}, "mtu", "68 or more"),
            ({"name": "a", "addresses": ["10.0.0.1"]}, "addresses.0", "Add the prefix"),
            ({"name": "a", "addresses": ["10.0.0.256/24"]}, "addresses.0", "not an address"),
            ({"name": "a", "vlans": [4095]}, "vlans.0", "4094 or less"),
            ({"name": "a", "surprise": 1}, "surprise", "no such field"),
        ],
    )
    def test_what_can_be_seen_is_refused_before_there_is_a_job(
        self, nowhere: Host, alice: User, link: dict[str, Any], field: str, sentence: str
    ) -> None:
        with pytest.raises(Invalid) as refused:
            hostnet.preview.submit(alice, nowhere, {"document": _link(**link)})
        fields = refused.value.fields
        assert sentence in fields[f"document.links.0.bridge.{field}"]

    @pytest.mark.parametrize(
        ("document", "field", "sentence"),
        [
            (_link(name="eth0"), "links.0.name", "was not made here"),
            (_link(addresses=["192.0.2.99/25"]), "links.0.addresses.0", "overlaps"),
            (
                {"links": [{"kind": "physical", "name": "nope"}]},
                "links.0.name",
                "There is no interface",
            ),
            (
                {"links": [{"kind": "vlan", "name": "v", "parent": "eth0", "id": 7}]},
                "links.0.kind",
                "kernel has no",
            ),
            (_link(vlan_filtering=True), "links.0.vlan_filtering", "kernel has no"),
            ({"routes": [{"to": "10.9.0.0/16", "via": "203.0.113.9"}]}, "routes.0.via", "none of"),
        ],
    )
    def test_what_the_host_must_say_comes_back_at_its_field(
        self, network: OwnNetwork, alice: User, document: dict[str, Any], field: str, sentence: str
    ) -> None:
        job = network.plan(alice, document)
        assert job.state == JobState.FAILED
        assert job.error_field == f"document.{field}"
        assert sentence in job.error

    def test_a_port_in_another_bridge_is_refused(self, network: OwnNetwork, alice: User) -> None:
        network.own.execute("ip", "link", "add", "br-other", "type", "bridge")
        network.own.execute("ip", "link", "add", "p0", "master", "br-other", "type", "veth")
        try:
            port = {"kind": "physical", "name": "p0", "master": "br-lab"}
            job = network.plan(alice, {"links": [BRIDGE, port]})
        finally:
            network.own.execute("ip", "link", "delete", "p0")
            network.own.execute("ip", "link", "delete", "br-other")
        assert job.error_field == "document.links.1.master"
        assert "a port of br-other already" in job.error

    @pytest.mark.parametrize("name", SHELL)
    def test_no_shell_ever_sees_a_name(self, network: OwnNetwork, alice: User, name: str) -> None:
        """The kernel takes any of these: so there is a bridge of just that name, or a refusal."""
        document = {"links": [{"kind": "bridge", "name": name}]}
        assert network.apply(alice, document).state == JobState.DONE
        assert network.has(name)

    def test_the_name_of_a_router_is_plainer_still(self, nowhere: Host, alice: User) -> None:
        for name in SHELL:
            with pytest.raises(Invalid, match="another look"):
                hostnet.preview.submit(alice, nowhere, {"document": {"routers": [{"name": name}]}})


class TestLookingAround:
    def test_a_command_is_run_and_its_output_kept(self, network: OwnNetwork, alice: User) -> None:
        job = network.run(hostnet.run_command, alice, command=["ip", "-br", "a"])
        assert "192.0.2.10/24" in job.result["output"]
        assert job.commands == [["ip", "-br", "a"]]

    @pytest.mark.parametrize(
        "command", [["ip", "link", "delete", "eth0"], ["sh", "-c", "id"], ["ip", "a", ";", "id"]]
    )
    def test_one_that_could_change_something_is_refused(
        self, network: OwnNetwork, alice: User, command: list[str]
    ) -> None:
        job = network.run(hostnet.run_command, alice, command=command)
        assert job.state == JobState.FAILED
        assert job.error_field == "command"
        assert "Only commands that look" in job.error
        assert network.has("eth0")


def test_without_a_helper_the_reason_is_told(network: OwnNetwork, alice: User) -> None:
    mirror.forget(network.host.pk)
    HostNetwork.objects.update(problem="sudo asks for a password.")
    job = network.plan(alice, LAB)
    mirror.keep(network.host.pk, network.client)
    assert (job.state, job.error) == (JobState.FAILED, "sudo asks for a password.")


def test_only_who_may_change_networks_may_do_any_of_it(nowhere: Host) -> None:
    for role in (Role.OPERATOR, Role.VIEWER, Role.NONE):
        user = User.objects.create(username=f"a {role}", role=role)
        for operation in hostnet.ALL:
            with pytest.raises(Forbidden, match="change networks"):
                operation.submit(user, nowhere, {})
