"""Plans carried out: all or nothing, whoever dies or comes between."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from kvmweb.net import journal, originals
from kvmweb.net.client import Client, GroundMovedError
from kvmweb.net.errors import NetError
from tests import dumps
from tests.net.own_host import OwnHost
from tests.network import Applied, Document, document
from tests.waiting import until

BRIDGE = {"kind": "bridge", "name": "br0"}
ON_UPLINK = document(links=[BRIDGE | {"uplink": "eth0"}])


def many(count: int = 300) -> Document:
    """So much that somebody can come between."""
    pairs = [
        {"kind": "veth", "name": f"{end}{number}", "peer": f"{other}{number}"}
        for number in range(count)
        for end, other in (("v", "w"), ("w", "v"))
    ]
    ports = [one | {"master": "br0"} if one["name"][0] == "v" else one for one in pairs]
    return document(links=[BRIDGE, *ports])


def planned(helper: Client, desired: Document, owned: Document | None = None) -> Document:
    told: Document = helper.call("plan", desired=desired, owned=owned or {})
    return {"desired": desired, "owned": owned or {}, "digest": told["digest"]}


def apply(helper: Client, desired: Document, **more: Any) -> Document:
    told: Document = helper.call("apply", **planned(helper, desired), **more)
    return told


def test_it_tells_what_it_ran(network: Applied) -> None:
    commands = network.apply(links=[BRIDGE | {"is_up": False}])
    assert commands == [
        ["ip", "link", "add", "name", "br0", "type", "bridge"],
        ["ip", "link", "set", "dev", "br0", "alias", "kvmweb"],
    ]


def test_a_second_apply_does_nothing_and_says_so(helper: Client, network: Applied) -> None:
    network.apply(links=[BRIDGE])
    again = planned(helper, network.document, network.document)
    assert helper.call("apply", **again)["state"] == "unchanged"


def test_a_step_that_fails_undoes_those_before_it(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    twins = [{"kind": "vxlan", "name": f"vx{n}", "id": 7, "remote": "192.0.2.7"} for n in (0, 1)]
    with pytest.raises(NetError) as failed:
        apply(helper, document(links=[BRIDGE, *twins]))
    assert failed.value.kind == "failed"
    assert "ip link add name vx1" in failed.value.sentence
    assert "VNI already exists" in failed.value.sentence
    assert failed.value.sentence.endswith("All is as it was before.")
    host.assert_as(clean)
    assert helper.call("pending") == []


def test_a_step_that_fails_at_the_end_gives_the_uplink_back(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    down = BRIDGE | {"name": "br1", "is_up": False, "addresses": ["10.60.0.1/24"]}
    late = document(
        links=[BRIDGE | {"uplink": "eth0"}, down],
        routes=[{"to": "10.61.0.0/16", "via": "10.60.0.9"}],
    )
    with pytest.raises(NetError, match=r"ip route add 10\.61\.0\.0/16"):
        apply(helper, late)
    assert host.is_reachable()
    host.assert_as(clean)


def test_a_name_that_is_taken_in_between_stays_its_makers(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    """The step fails, and its undo does not remove what another made."""
    plan = planned(helper, document(links=[BRIDGE, BRIDGE | {"name": "br1"}]))
    host.execute("ip", "link", "add", "br1", "type", "bridge")
    try:
        with pytest.raises(NetError, match="not made here"):
            helper.call("apply", **plan)
        assert set(host.links()) >= {"br1"}
    finally:
        host.execute("ip", "link", "delete", "br1")
    host.assert_as(clean)


def test_the_ground_has_moved(host: OwnHost, helper: Client, clean: dumps.Dump) -> None:
    plan = planned(helper, document(links=[BRIDGE | {"addresses": ["10.62.0.1/24"]}]))
    other = document(links=[BRIDGE])
    helper.call("apply", **planned(helper, other))
    with pytest.raises(GroundMovedError) as moved:
        helper.call("apply", **plan)
    commands = [command for step in moved.value.plan["steps"] for command in step["commands"]]
    assert commands[0][:3] == ["ip", "address", "add"]
    assert host.addresses("br0") == []
    helper.call("apply", **planned(helper, {}, other))
    host.assert_as(clean)


def test_of_two_administrators_one_finds_the_ground_moved(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    wanted = many(50)
    plan = planned(helper, wanted)
    ends: list[str] = []

    def administer() -> None:
        with host.client() as mine:
            try:
                ends.append(mine.call("apply", **plan)["state"])
            except NetError as error:
                ends.append(error.kind)

    threads = [threading.Thread(target=administer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == ["applied", "ground-moved"]
    helper.call("apply", **planned(helper, {}, wanted))
    host.assert_as(clean)


def test_what_waits_for_confirmation_lets_nobody_pass(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    waiting = apply(helper, ON_UPLINK, seconds=60)
    assert (waiting["state"], waiting["seconds"] > 50) == ("unconfirmed", True)
    assert [one["state"] for one in helper.call("pending")] == ["unconfirmed"]
    with pytest.raises(NetError, match="Confirm or revert that first"):
        apply(helper, document(links=[BRIDGE | {"name": "br1"}]))
    told = helper.call("revert", token=waiting["token"])
    assert (told["state"], told["sentence"]) == ("reverted", "It was reverted, as asked.")
    host.assert_as(clean)


def test_what_was_reverted_can_not_be_confirmed(
    host: OwnHost, helper: Client, clean: dumps.Dump
) -> None:
    waiting = apply(helper, ON_UPLINK, seconds=0.1)
    until(lambda: helper.call("pending")[0]["state"] == "reverted", what="the timer to revert")
    with pytest.raises(NetError, match="Nobody confirmed it") as late:
        helper.call("confirm", token=waiting["token"])
    assert late.value.kind == "late"
    helper.call("forget", token=waiting["token"])
    with pytest.raises(NetError) as unknown:
        helper.call("confirm", token=waiting["token"])
    assert unknown.value.kind == "missing"
    host.assert_as(clean)


def test_a_helper_killed_in_the_middle_is_undone_at_the_next_start(
    host: OwnHost, clean: dumps.Dump
) -> None:
    with host.client() as helper:
        _kill_in_the_middle(host, helper)
    assert len(host.links()) > 3
    with host.client() as helper:
        (told,) = helper.hello["recovered"]
        assert told["state"] == "undone"
        assert "ended in the middle of the change" in told["sentence"]
        assert helper.call("pending") == [told]
        helper.call("forget", token=told["token"])
    host.assert_as(clean)


def test_who_applies_next_undoes_it_too(host: OwnHost, helper: Client, clean: dumps.Dump) -> None:
    """A helper that was there before has not started again since."""
    with host.client() as other:
        _kill_in_the_middle(host, other)
    told = apply(helper, document(links=[BRIDGE | {"name": "br1"}]))
    assert told["state"] == "applied"
    assert set(host.links()) == {"lo", "eth0", "br1"}
    (undone,) = helper.call("pending")
    helper.call("forget", token=undone["token"])
    helper.call("apply", **planned(helper, {}, document(links=[BRIDGE | {"name": "br1"}])))
    host.assert_as(clean)


def _kill_in_the_middle(host: OwnHost, helper: Client) -> None:
    plan = planned(helper, many())

    def ask() -> None:
        with pytest.raises(NetError) as ended:
            helper.call("apply", **plan)
        assert ended.value.kind == "lost"

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: host.count() > 20, what="the first links to be made")
    os.kill(helper.process_id, signal.SIGKILL)
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVMWEB_NET_STATE", str(tmp_path))
    return tmp_path


def _head(file: Path, **changed: Any) -> None:
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(head), **changed}), *lines]) + "\n")


HEAD = {"seconds": 30, "before": {}, "originals": {}}


@pytest.mark.usefixtures("state")
def test_a_journal_of_another_boot_is_void(state: Path) -> None:
    journal.Journal.open(HEAD, [])
    (file,) = state.glob("*.journal")
    assert len(journal.everything()) == 1
    _head(file, boot="an earlier one")
    assert journal.everything() == []
    assert not file.exists()


def test_a_journal_of_another_network_is_not_ours(state: Path) -> None:
    journal.Journal.open(HEAD, [])
    (file,) = state.glob("*.journal")
    _head(file, namespace=7)
    assert journal.everything() == []
    assert file.exists()


def test_a_line_cut_off_by_a_kill_is_passed_over(state: Path) -> None:
    written = journal.Journal.open(HEAD, [])
    written.note(begun=0)
    (file,) = state.glob("*.journal")
    file.write_bytes(file.read_bytes() + b'{"deadline": 12')
    assert journal.read(written.token).state == journal.APPLYING


@pytest.mark.usefixtures("state")
def test_originals_of_another_boot_are_void(state: Path) -> None:
    originals.write({"eth0": {"mtu": 1500}})
    assert originals.read() == {"eth0": {"mtu": 1500}}
    file = state / "originals.json"
    file.write_text(file.read_text().replace(originals.boot(), "an earlier one"))
    assert originals.read() == {}
    originals.write({})
    assert not file.exists()


def test_what_is_kept_on_the_host_is_roots_alone(state: Path) -> None:
    with journal.alone():
        written = journal.Journal.open(HEAD, [])
    (file,) = state.glob("*.journal")
    assert file.stat().st_mode & 0o077 == 0
    written.forget()
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(("owner", "mode"), [(65534, 0o700), (0, 0o777), (0, 0o720)])
def test_a_journal_that_others_could_have_written_is_not_trusted(
    state: Path, owner: int, mode: int
) -> None:
    os.chown(state, owner, -1)
    state.chmod(mode)
    with pytest.raises(NetError, match="can be changed by others than root"):
        journal.everything()
