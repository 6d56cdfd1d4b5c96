"""The uplink test: the only interface a host is reached by becomes a port of a bridge.

The host is a namespace, reached over eth0 from a gateway; the helper is started there directly, or
by ssh over that same interface. What was before is compared as whole dumps: links, addresses and
routes of every table.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmweb.net import launch
from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from tests import dumps
from tests.net.own_host import ADDRESS, GATEWAY, OwnHost
from tests.network import Document, document
from tests.waiting import until

WANTED = document(links=[{"kind": "bridge", "name": "br0", "uplink": "eth0"}])
SECONDS = 2.0


@pytest.fixture(scope="module")
def host() -> Iterator[OwnHost]:
    with OwnHost(doubts=True) as own:
        yield own


@pytest.fixture
def before(host: OwnHost) -> Iterator[dumps.Dump]:
    dump = host.dump()
    yield dump
    assert host.is_reachable()
    host.assert_as(dump)


def bridge_it(helper: Client, *, seconds: float = SECONDS, **more: Any) -> str:
    """The token of what waits for confirmation."""
    told = plan(helper, WANTED, {}, **more)
    assert told["is_risky"]
    ended = helper.call(
        "apply", desired=WANTED, owned={}, digest=told["digest"], seconds=seconds, **more
    )
    assert ended["state"] == "unconfirmed"
    return str(ended["token"])


def plan(helper: Client, desired: Document, owned: Document, **more: Any) -> Document:
    told: Document = helper.call("plan", desired=desired, owned=owned, **more)
    return told


def unbridge_it(helper: Client) -> None:
    digest = plan(helper, {}, WANTED)["digest"]
    ended = helper.call("apply", desired={}, owned=WANTED, digest=digest, seconds=60)
    helper.call("confirm", token=ended["token"])


def is_bridged(host: OwnHost) -> bool:
    return "master" in host.links()["eth0"]


def is_as_before(host: OwnHost) -> bool:
    return not is_bridged(host) and "br0" not in host.links() and host.is_reachable()


def ended(host: OwnHost) -> Document:
    """How the change ended, which nobody has heard yet; then it is forgotten."""
    with host.client() as helper:
        (told,) = helper.call("pending")
        helper.call("forget", token=told["token"])
        return dict(told)


def test_confirmed_it_is_kept(host: OwnHost, before: dumps.Dump) -> None:
    mac = host.links()["eth0"]["address"]
    with host.client() as helper:
        token = bridge_it(helper)
        assert host.is_reachable()
        assert helper.call("confirm", token=token)["state"] == "confirmed"
        time.sleep(SECONDS + 0.5)  # the time in which the timer would have reverted it
        assert host.is_reachable()
        assert is_bridged(host)
        assert host.links()["br0"]["address"] == mac
        assert host.addresses("eth0") == []
        routes = host.rows("ip", "-j", "route", "show", "default")
        assert [(row["gateway"], row["dev"]) for row in routes] == [(GATEWAY, "br0")]
        assert plan(helper, WANTED, WANTED)["steps"] == []
        unbridge_it(helper)


def test_not_confirmed_it_reverts_by_itself(host: OwnHost, before: dumps.Dump) -> None:
    with host.client() as helper:
        token = bridge_it(helper)
        assert is_bridged(host)
        began = time.monotonic()
        until(lambda: is_as_before(host), what="the host to revert")
        assert time.monotonic() - began < SECONDS + 3
        with pytest.raises(NetError, match="Nobody confirmed it within 2 s"):
            helper.call("confirm", token=token)
    assert ended(host)["state"] == "reverted"


def test_it_reverts_though_the_helper_was_killed(host: OwnHost, before: dumps.Dump) -> None:
    helper = host.client()
    bridge_it(helper)
    os.kill(helper.process_id, signal.SIGKILL)
    helper.close()
    assert is_bridged(host)
    until(lambda: is_as_before(host), what="the host to revert")
    assert ended(host)["state"] == "reverted"


def test_it_reverts_though_the_timer_was_killed_and_the_helper_starts_again(
    host: OwnHost, before: dumps.Dump
) -> None:
    helper = host.client()
    token = bridge_it(helper)
    for process in (helper.process_id, *timers(token)):
        os.kill(process, signal.SIGKILL)
    helper.close()
    until(lambda: not timers(token), what="the timer to be gone")
    with host.client() as again:
        assert again.call("pending")[0]["state"] == "unconfirmed"
        assert timers(token)
        until(lambda: is_as_before(host), what="the host to revert")
    assert ended(host)["state"] == "reverted"


def test_both_killed_and_back_too_late_it_reverts_at_once(
    host: OwnHost, before: dumps.Dump
) -> None:
    helper = host.client()
    token = bridge_it(helper, seconds=0.5)
    for process in (helper.process_id, *timers(token)):
        os.kill(process, signal.SIGKILL)
    helper.close()
    time.sleep(0.6)  # its time passes, and nobody is there
    assert is_bridged(host)
    with host.client() as again:
        assert [one["state"] for one in again.hello["recovered"]] == ["reverted"]
        assert is_as_before(host)
    assert ended(host)["state"] == "reverted"


def test_confirmed_by_another_helper_than_it_was_applied_by(
    host: OwnHost, before: dumps.Dump
) -> None:
    helper = host.client()
    token = bridge_it(helper, seconds=30)
    os.kill(helper.process_id, signal.SIGKILL)
    helper.close()
    with host.client() as again:
        assert again.call("pending")[0]["token"] == token
        again.call("confirm", token=token)
        until(lambda: not timers(token), what="the timer to end")
        assert is_bridged(host)
        unbridge_it(again)


def test_reverted_by_hand(host: OwnHost, before: dumps.Dump) -> None:
    with host.client() as helper:
        token = bridge_it(helper, seconds=60)
        helper.call("revert", token=token)
        assert is_as_before(host)
        until(lambda: not timers(token), what="the timer to end")
        assert helper.call("pending") == []


def timers(token: str) -> list[int]:
    """Processes that watch over a change."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_over_ssh_through_the_interface_itself(host: OwnHost, before: dumps.Dump) -> None:
    """The session outlives its own interface's change, and the plan knows that it is at stake."""
    with host.by_ssh() as uri, Client(launch.by_uri(uri)) as helper:
        told = plan(helper, document(links=[{"kind": "physical", "name": "eth0", "mtu": 1400}]), {})
        assert told["is_risky"]
        token = bridge_it(helper)
        assert helper.call("confirm", token=token)["state"] == "confirmed"
        unbridge_it(helper)


def test_over_ssh_what_is_cut_off_comes_back(host: OwnHost, before: dumps.Dump) -> None:
    """The interface goes down with the session on it; nobody can confirm that."""
    wanted = document(links=[{"kind": "physical", "name": "eth0", "is_up": False}])
    with host.by_ssh() as uri:
        helper = Client(launch.by_uri(uri))
        digest = plan(helper, wanted, {})["digest"]
        with pytest.raises(NetError) as cut:
            helper.call("apply", desired=wanted, owned={}, digest=digest, seconds=SECONDS, within=1)
        assert cut.value.kind in ("deadline", "lost")
        os.kill(helper.process_id, signal.SIGKILL)
        helper.close()
        assert not host.is_reachable()
        until(host.is_reachable, what="the host to come back")
    assert ended(host)["state"] == "reverted"


def test_the_ssh_session_alone_is_reason_enough(host: OwnHost, before: dumps.Dump) -> None:
    """Where the default route goes another way."""
    routes = host.execute("ip", "route", "show", "default").split()
    routes6 = host.execute("ip", "-6", "route", "show", "default").split()[:5]
    host.execute("ip", "route", "del", *routes)
    host.execute("ip", "-6", "route", "del", *routes6)
    try:
        with host.by_ssh() as uri, Client(launch.by_uri(uri)) as helper:
            assert plan(helper, WANTED, {})["reasons"] == ["eth0 carries the ssh session."]
        with host.client() as helper:
            assert not plan(helper, WANTED, {})["is_risky"]
            reasons = plan(helper, WANTED, {}, keep=[ADDRESS])["reasons"]
            assert reasons == ["eth0 carries the site's own address."]
    finally:
        host.execute("ip", "route", "add", *routes)
        host.execute("ip", "-6", "route", "add", *routes6)


def test_it_is_reachable_again_within_35_seconds(host: OwnHost, before: dumps.Dump) -> None:
    """With the 30 seconds that people get."""
    with host.client() as helper:
        told = plan(helper, WANTED, {})
        helper.call("apply", desired=WANTED, owned={}, digest=told["digest"])
        began = time.monotonic()
        until(lambda: is_as_before(host), seconds=60, what="the host to revert")
        assert 29 < time.monotonic() - began < 35
    assert ended(host)["state"] == "reverted"
