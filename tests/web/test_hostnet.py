"""The tab “Network” of a host: what it shows, its forms, and the way to a plan and beyond."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import (
    ChangeState,
    Host,
    HostNetwork,
    Job,
    JobState,
    Network,
    NetworkChange,
    Nic,
    Role,
    User,
)
from kvmweb.operations import hostnet
from kvmweb.web.hostnet.kinds import KINDS
from kvmweb.web.hostnet.pages import SECTIONS
from tests.hostnet import BRIDGE, Followed, OwnNetwork, finish, whole
from tests.web.conftest import make_machine, signed_in
from tests.web.test_hosts import _text

LAB = {"links": [BRIDGE]}
HTMX = {"HX-Request": "true"}
RICH: dict[str, Any] = {
    "links": [
        BRIDGE,
        {
            "kind": "bridge",
            "name": "br-vlan",
            "uplink": "eth0",
            "vlan_filtering": True,
            "vlans": [10, 20, 21, 22],
            "stp": True,
            "priority": 4096,
        },
        {"kind": "bond", "name": "bond0", "mode": "802.3ad", "lacp_rate": "fast"},
        {"kind": "physical", "name": "eth1", "master": "bond0", "offloads": {"tso": False}},
        {"kind": "vlan", "name": "eth0.7", "parent": "eth0", "id": 7},
        {"kind": "veth", "name": "va", "peer": "vb", "mtu": 1400},
        {
            "kind": "veth",
            "name": "vb",
            "peer": "va",
            "master": "br-vlan",
            "port": {"pvid": 10, "vlans": [20, 30, 31], "is_isolated": True},
        },
        {"kind": "vxlan", "name": "vx", "id": 77, "remote": "192.0.2.9", "port_number": 4790},
        {"kind": "gretap", "name": "gt", "remote": "192.0.2.9", "key": 5},
        {"kind": "dummy", "name": "d0", "is_up": False, "mac": "52:54:00:00:00:01"},
        {"kind": "macvtap", "name": "mv", "parent": "eth0", "mode": "private"},
        {"kind": "tap", "name": "tap9"},
    ],
    "routes": [{"to": "10.9.0.0/16", "via": "192.0.2.1", "metric": 10}],
    "switches": [
        {
            "name": "br-int",
            "datapath_type": "netdev",
            "fail_mode": "secure",
            "controllers": ["tcp:192.0.2.5:6653"],
            "other_config": {"mac-aging-time": "300"},
            "sflow": {"targets": ["192.0.2.5:6343"], "sampling": 64, "agent": "eth0"},
            "ports": [
                {"name": "p1", "tag": 10, "policing_rate": 1000},
                {"name": "gre0", "kind": "gre", "remote_ip": "192.0.2.9", "key": "flow"},
                {
                    "name": "ob",
                    "interfaces": ["eth2", "eth3"],
                    "bond_mode": "balance-tcp",
                    "lacp": "active",
                    "trunks": [1, 2, 3],
                    "qos": {"max_rate": 10**7, "queues": [{"id": 0, "max_rate": 10**6}]},
                },
            ],
            "mirrors": [{"name": "span0", "select_src_ports": ["p1"], "output_port": "ob"}],
        }
    ],
    "routers": [
        {
            "name": "lab",
            "legs": [
                {"name": "lan", "switch": "br-lab", "addresses": ["10.7.0.1/24", "fd00::1/64"]},
                {"name": "stick", "switch": "br-int", "trunks": [10, 11]},
                {"name": "v10", "parent": "stick", "vlan": 10},
            ],
            "routes": [{"to": "default", "via": "10.7.0.254"}],
            "snat": [{"source": "10.7.0.0/24", "out": "v10"}],
            "dnat": [{"protocol": "tcp", "port": 80, "to": "10.7.0.9", "to_port": 8080}],
            "filters": [{"action": "reject", "protocol": "udp", "port": 53}],
            "dhcp": [
                {
                    "leg": "lan",
                    "start": "10.7.0.100",
                    "end": "10.7.0.199",
                    "router": "",
                    "options": {"mtu": "1400"},
                    "reservations": [{"mac": "52:54:00:00:00:09", "address": "10.7.0.9"}],
                }
            ],
        }
    ],
    "forwards": [
        {"network": "default", "protocol": "tcp", "port": 2222, "to": "10.8.0.9", "to_port": 22}
    ],
}


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create(username="alice", role=Role.ADMINISTRATOR)


@pytest.fixture
def victor(db: None) -> User:
    return User.objects.create(username="victor", role=Role.VIEWER)


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create(username="charlie", role=Role.NONE)


@pytest.fixture(autouse=True)
def _no_waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no agent, a job is finished by the test."""
    seconds = 30 if "followed" in request.fixturenames else 0
    for module in ("hostnet.drafts", "hostnet.pages", "hostnet.plans", "operate"):
        monkeypatch.setattr(f"kvmweb.web.{module}.WAIT_SECONDS", seconds)


@pytest.fixture
def wanting(local: Host) -> Host:
    """A host of which much is wanted. Nothing is known of what it has."""
    HostNetwork.objects.create(host=local, desired=whole(RICH), actual={"links": []})
    return local


def _at(host: Host, rest: str = "", **query: str) -> str:
    return f"/hosts/{host.pk}/network{rest}" + (f"?{urlencode(query)}" if query else "")


def _form(answer: Any) -> Any:
    return html.fromstring(answer.content).get_element_by_id("hostnet-form")


def _filled(form: Any) -> dict[str, list[str]]:
    """What a browser would send of it."""
    data: dict[str, list[str]] = {}
    for name, value in form.form_values():
        data.setdefault(name, []).append(value)
    return data


def _error(answer: Any, path: str) -> str:
    assert answer.status_code == 422, answer.status_code
    tree = html.fromstring(answer.content)
    name = "input-" + path.replace(".", "-")
    assert tree.get_element_by_id(name).get("aria-invalid") == "true"
    return str(tree.get_element_by_id(f"error-{name}").text_content())


def _planned(answer: Any) -> Job:
    """The job of the plan that the form led to."""
    assert answer.status_code == 302, _text(answer, 422)
    return Job.objects.get(pk=answer["Location"].rpartition("/")[2])


class TestWhatIsThere:
    def test_the_interfaces_with_all_that_is_known(
        self, viewer: Client, network: OwnNetwork
    ) -> None:
        text = _text(viewer.get(_at(network.host)))
        for part in ("eth0", "192.0.2.10/24", "default route", "veth", "What this host"):
            assert part in text

    @pytest.mark.parametrize("section", [one.name for one in SECTIONS])
    def test_every_section_has_an_address(
        self, viewer: Client, network: OwnNetwork, section: str
    ) -> None:
        answer = viewer.get(_at(network.host, f"/{section}"))
        current = html.fromstring(answer.content).xpath('//nav[@class="pills"]/a[@aria-current]')
        assert [one.get("href") for one in current] == [_at(network.host, f"/{section}")]
        part = viewer.get(_at(network.host, f"/{section}", fragment="section"))
        assert part.content.decode().lstrip().startswith('<div id="hostnet"')

    def test_there_are_no_other_sections(self, viewer: Client, local: Host) -> None:
        assert viewer.get(_at(local, "/nothing")).status_code == 404

    def test_one_interface_in_all_detail(self, viewer: Client, network: OwnNetwork) -> None:
        text = _text(viewer.get(_at(network.host, name="eth0")))
        for part in ("tx-checksumming", "via 192.0.2.1", "Counters", "Packets", "the host"):
            assert part in text
        assert "Switch off" not in text

    def test_one_that_is_gone_is_said_to_be(self, viewer: Client, network: OwnNetwork) -> None:
        assert "There is no interface nope" in _text(viewer.get(_at(network.host, name="nope")))

    def test_a_tap_leads_to_its_machine_and_a_bridge_to_its_virtual_network(
        self, viewer: Client, network: OwnNetwork
    ) -> None:
        machine = make_machine(network.host, "web1")
        Nic.objects.create(machine=machine, host=network.host, index=0, kind="bridge", tap="eth0")
        Network.objects.create(
            host=network.host, uuid=machine.uuid, name="default", is_active=True, bridge="lo"
        )
        text = _text(viewer.get(_at(network.host)))
        assert f'href="/machines/{machine.uuid}">web1</a>' in text
        assert "virtual network default" in text

    def test_bridges_routes_and_routers(
        self, viewer: Client, network: OwnNetwork, alice: User
    ) -> None:
        router = {"name": "lab", "legs": [{"name": "lan", "switch": "br-lab"}]}
        network.apply(alice, {**LAB, "routers": [router]})
        network.read()
        bridges = _text(viewer.get(_at(network.host, "/bridges")))
        assert "br-lab" in bridges
        assert "lab-lan" in bridges
        assert "198.51.100.0/24" in _text(viewer.get(_at(network.host, "/routes")))
        assert "br-lab" in _text(viewer.get(_at(network.host, "/routers")))
        assert "kind: bridge" in _text(viewer.get(_at(network.host, "/document")))
        assert "applied" in _text(viewer.get(_at(network.host, "/changes")))

    def test_it_needs_few_queries(
        self,
        viewer: Client,
        network: OwnNetwork,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        # session, user, host, network, taps, bridges of networks, jobs under way, what waits
        with django_assert_num_queries(8):
            viewer.get(_at(network.host))

    def test_looking_writes_nothing(self, admin: Client, local: Host) -> None:
        for section in SECTIONS:
            assert "Not read yet" in _text(admin.get(_at(local))), section
            admin.get(_at(local, f"/{section.name}"))
        admin.get(_at(local, "/form", kind="bridge"))
        admin.get(_at(local, "/edit"))
        assert not HostNetwork.objects.exists()
        assert not Job.objects.exists()

    def test_the_make_believe_host_says_that_it_has_none(self, viewer: Client) -> None:
        host = Host.objects.create(name="play", uri="test:///default", driver="TEST")
        assert "make-believe" in _text(viewer.get(_at(host)))

    def test_why_it_cannot_be_read(self, viewer: Client, local: Host) -> None:
        mirror.write_problem(local.pk, "sudo on this host asks for a password.")
        assert "sudo on this host asks for a password." in _text(viewer.get(_at(local)))

    def test_drift_is_shown_with_what_can_be_done(
        self, admin: Client, viewer: Client, local: Host
    ) -> None:
        step = {"commands": [["ip", "link", "add", "a b"]], "touches": [], "is_risky": False}
        HostNetwork.objects.create(host=local, actual={"links": []}, drift=[step])
        text = _text(admin.get(_at(local)))
        assert "The host differs" in text
        assert "ip link add 'a b'" in text
        for name in ("put_back", "take_over"):
            assert f'hx-get="{_at(local, f"/do/{name}")}"' in text
            assert f'hx-get="{_at(local, f"/do/{name}")}"' not in _text(viewer.get(_at(local)))
        dialog = _text(admin.get(_at(local, "/do/put_back"), headers=HTMX))
        assert "ip link add 'a b'" in dialog

    def test_it_is_exported_as_yaml(self, viewer: Client, wanting: Host) -> None:
        answer = viewer.get(_at(wanting, "/export"))
        assert answer["Content-Disposition"] == 'attachment; filename="local.yaml"'
        assert "name: br-vlan" in answer.content.decode()


class TestStrangers:
    ADDRESSES = (
        "", "/links", "/changes", "/export", "/banner", "/form?kind=bridge", "/edit",
        "/do/undo", "/plans/{job}", "/changes/{change}",
    )  # fmt: skip
    POSTS = (
        "/form?kind=bridge", "/edit", "/delete?kind=bridge&name=br-lab", "/offload?name=eth0",
        "/plans/{job}/apply", "/plans/{job}/again", "/ask/run_command",
    )  # fmt: skip

    @pytest.fixture
    def things(self, wanting: Host, alice: User) -> dict[str, str]:
        job = Job.objects.create(
            kind=hostnet.preview.kind, host=wanting, arguments={"document": whole(LAB)}
        )
        change = NetworkChange.objects.create(host=wanting, state=ChangeState.APPLIED)
        return {"job": str(job.pk), "change": str(change.pk)}

    def test_charlie_finds_nothing(
        self, stranger: Client, wanting: Host, things: dict[str, str]
    ) -> None:
        for rest in self.ADDRESSES:
            assert stranger.get(_at(wanting, rest.format(**things))).status_code == 404, rest
        for rest in self.POSTS:
            assert stranger.post(_at(wanting, rest.format(**things))).status_code == 404, rest

    def test_victor_looks_and_can_change_nothing(
        self, viewer: Client, wanting: Host, things: dict[str, str]
    ) -> None:
        count = Job.objects.count()
        for rest in self.POSTS:
            answer = viewer.post(_at(wanting, rest.format(**things)), {"command": "ip a"})
            assert answer.status_code in (403, 404), rest
        for name in ("confirm", "revert", "undo", "put_back", "take_over"):
            answer = viewer.post(_at(wanting, f"/do/{name}"), headers=HTMX)
            assert answer.status_code == 403, name
        assert Job.objects.count() == count
        for rest in ("/form?kind=bridge", "/edit"):
            assert viewer.get(_at(wanting, rest)).status_code == 404
        text = _text(viewer.get(_at(wanting)))
        assert "add-menu" not in text


class TestForms:
    @pytest.mark.parametrize(
        "name", [one for one in KINDS if not KINDS[one].is_in_switch], ids=lambda one: one
    )
    def test_every_kind_has_one(self, admin: Client, local: Host, name: str) -> None:
        text = _text(admin.get(_at(local, "/form", kind=name)))
        assert str(KINDS[name].hint).split(".")[0][:30] in text

    def test_an_unknown_kind_has_none(self, admin: Client, local: Host) -> None:
        for query in ({}, {"kind": "x"}, {"kind": "port"}, {"kind": "port", "switch": "nope"}):
            assert admin.get(_at(local, "/form", **query)).status_code == 404
        assert admin.get(_at(local, "/form", kind="bridge", name="nope")).status_code == 404

    def test_the_first_free_name_is_proposed(self, admin: Client, wanting: Host) -> None:
        def proposed(kind: str, **query: str) -> str:
            form = _form(admin.get(_at(wanting, "/form", kind=kind, **query)))
            return str(form.fields["name"])

        assert proposed("bridge") == "br0"
        assert proposed("bond") == "bond1"
        assert proposed("mirror", switch="br-int") == "span1"

    @pytest.mark.parametrize(
        ("kind", "name", "switch"),
        [
            *(
                ("macvlan" if one["kind"] == "macvtap" else one["kind"], one["name"], "")
                for one in RICH["links"]
            ),
            ("switch", "br-int", ""),
            ("router", "lab", ""),
            ("route", "10.9.0.0/16 192.0.2.1 10", ""),
            ("forward", "tcp 2222", ""),
            ("port", "p1", "br-int"),
            ("port", "gre0", "br-int"),
            ("port", "ob", "br-int"),
            ("mirror", "span0", "br-int"),
        ],
    )
    def test_saving_what_was_not_changed_changes_nothing(
        self, admin: Client, wanting: Host, kind: str, name: str, switch: str
    ) -> None:
        address = _at(wanting, "/form", kind=kind, name=name, switch=switch)
        form = _form(admin.get(address))
        data = _filled(form)
        job = _planned(admin.post(address, data))
        assert job.arguments["document"] == whole(RICH)

    def test_what_is_wrong_is_said_at_its_field_and_all_is_kept(
        self, admin: Client, local: Host
    ) -> None:
        data = {"name": "much-too-long-name", "addresses": "10.0.0.1/24, 10.0.0.300/24", "mtu": "5"}
        answer = admin.post(_at(local, "/form", kind="bridge"), data)
        assert "at most 15" in _error(answer, "name")
        assert "not an address" in _error(answer, "addresses")
        assert "68 or more" in _error(answer, "mtu")
        assert _form(answer).fields["addresses"] == "10.0.0.1/24, 10.0.0.300/24"
        assert not Job.objects.exists()

    @pytest.mark.parametrize("vlan", ["0", "4095", "-1", "x"])
    def test_a_vlan_that_is_none(self, admin: Client, local: Host, vlan: str) -> None:
        data = {"name": "v", "parent": "eth0", "id": vlan}
        assert _error(admin.post(_at(local, "/form", kind="vlan"), data), "id")

    def test_deep_within_a_router(self, admin: Client, local: Host) -> None:
        data = {
            "name": "lab",
            "legs.0.name": "lan",
            "dhcp.0.leg": "lan",
            "dhcp.0.start": "10.0.0.x",
            "dhcp.0.end": "10.0.0.9",
            "dhcp.0.reservations.0.mac": "01:00:5e:00:00:01",
            "dhcp.0.reservations.0.address": "10.0.0.7",
        }
        answer = admin.post(_at(local, "/form", kind="router"), data)
        assert "not an IP address" in _error(answer, "dhcp.0.start")
        assert "multicast" in _error(answer, "dhcp.0.reservations.0.mac")

    def test_rows_come_and_go_and_keep_what_was_typed(self, admin: Client, local: Host) -> None:
        address = _at(local, "/form", kind="router")
        data = _filled(_form(admin.get(address))) | {"legs.0.addresses": ["10.0.0.1/24"]}
        form = _form(admin.post(address, {**data, "add": "snat"}))
        assert "snat.0.source" in form.fields
        assert form.fields["legs.0.addresses"] == "10.0.0.1/24"
        form = _form(admin.post(address, {**_filled(form), "remove": "legs.1"}))
        assert "legs.1.name" not in form.fields
        form = _form(admin.post(address, {**_filled(form), "add": "nothing.at.all"}))
        assert "snat.0.source" in form.fields
        assert not Job.objects.exists()

    def test_ranges_of_vlans_are_understood(self, admin: Client, local: Host) -> None:
        data = {"name": "br9", "vlans": "5, 10-12;20", "vlan_filtering": "1", "is_up": "1"}
        job = _planned(admin.post(_at(local, "/form", kind="bridge"), data))
        assert job.arguments["document"]["links"][0]["vlans"] == [5, 10, 11, 12, 20]

    def test_a_pair_is_made_whole_and_ports_are_plugged(self, admin: Client, local: Host) -> None:
        job = _planned(admin.post(_at(local, "/form", kind="veth"), {"name": "a", "peer": "b"}))
        links = job.arguments["document"]["links"]
        assert [(one["name"], one["peer"]) for one in links] == [("a", "b"), ("b", "a")]
        data = {"name": "br9", "members": ["eth1", "eth2"]}
        job = _planned(admin.post(_at(local, "/form", kind="bridge"), data))
        links = job.arguments["document"]["links"]
        assert {one["name"]: one["master"] for one in links[1:]} == {"eth1": "br9", "eth2": "br9"}

    def test_a_vlan_is_named_after_its_link(self, admin: Client, local: Host) -> None:
        data = {"parent": "eth0", "id": "30"}
        job = _planned(admin.post(_at(local, "/form", kind="vlan"), data))
        assert job.arguments["document"]["links"][0]["name"] == "eth0.30"

    def test_a_name_cannot_be_changed_on_the_way(self, admin: Client, wanting: Host) -> None:
        data = {"name": "other", "addresses": "10.5.5.9/24"}
        job = _planned(admin.post(_at(wanting, "/form", kind="bridge", name="br-lab"), data))
        names = [one["name"] for one in job.arguments["document"]["links"]]
        assert names == [one["name"] for one in RICH["links"]]


class TestPlans:
    def test_it_shows_steps_commands_difference_and_machines(
        self, admin: Client, network: OwnNetwork
    ) -> None:
        machine = make_machine(network.host, "web1")
        Nic.objects.create(
            machine=machine, host=network.host, index=0, kind="bridge", source="br-lab"
        )
        data = {"name": "br-lab", "addresses": "10.5.5.1/24", "is_up": "1"}
        job = _planned(admin.post(_at(network.host, "/form", kind="bridge"), data))
        assert "The host is being asked" in _text(admin.get(_at(network.host, f"/plans/{job.pk}")))
        finish(job)
        text = _text(admin.get(_at(network.host, f"/plans/{job.pk}", fragment="plan")))
        assert "ip link add name br-lab type bridge" in text
        assert "+ name: br-lab" in text
        assert "web1" in text
        assert "could cut you off" not in text

    def test_its_job_shows_the_document_as_yaml(self, admin: Client, wanting: Host) -> None:
        job = _planned(
            admin.post(_at(wanting, "/form", kind="bridge"), {"name": "a", "is_up": "1"})
        )
        text = admin.get(f"/jobs/{job.pk}").content.decode()
        assert "- kind: bridge\n  name: br-lab" in text

    def test_a_risky_one_says_why(self, admin: Client, network: OwnNetwork) -> None:
        data = {"name": "br0", "uplink": "eth0", "is_up": "1"}
        job = _planned(admin.post(_at(network.host, "/form", kind="bridge"), data))
        finish(job)
        text = _text(admin.get(_at(network.host, f"/plans/{job.pk}")))
        assert "This could cut you off from the host." in text
        assert "eth0 carries the default route." in text

    def test_a_form_adds_to_a_plan(self, admin: Client, network: OwnNetwork) -> None:
        first = _planned(
            admin.post(_at(network.host, "/form", kind="bridge"), {"name": "a", "is_up": "1"})
        )
        finish(first)
        address = _at(network.host, "/form", kind="bridge", draft=str(first.pk))
        assert "the plan you began" in _text(admin.get(address))
        second = _planned(admin.post(address, {"name": "b", "is_up": "1"}))
        names = [one["name"] for one in second.arguments["document"]["links"]]
        assert names == ["a", "b"]
        assert admin.get(_at(network.host, "/form", kind="bridge", draft="x")).status_code == 404

    def test_deleting_is_planned_as_well(self, admin: Client, wanting: Host) -> None:
        address = _at(wanting, "/delete", kind="port", name="gre0", switch="br-int")
        job = _planned(admin.post(address))
        ports = job.arguments["document"]["switches"][0]["ports"]
        assert [one["name"] for one in ports] == ["p1", "ob"]
        job = _planned(admin.post(_at(wanting, "/delete", kind="router", name="lab")))
        assert job.arguments["document"]["routers"] == []
        assert admin.post(_at(wanting, "/delete", kind="bridge", name="x")).status_code == 404

    def test_an_offload_is_switched_by_a_plan(self, admin: Client, network: OwnNetwork) -> None:
        data = {"feature": "tcp-segmentation-offload", "on": "0"}
        job = _planned(admin.post(_at(network.host, "/offload", name="eth0"), data))
        finish(job)
        assert job.arguments["document"]["links"][0]["kind"] == "physical"
        text = _text(admin.get(_at(network.host, f"/plans/{job.pk}")))
        assert "ethtool -K eth0 tcp-segmentation-offload off" in text

    def test_one_that_the_host_refused_can_be_mended(
        self, admin: Client, network: OwnNetwork
    ) -> None:
        job = _planned(
            admin.post(_at(network.host, "/form", kind="bridge"), {"name": "eth0", "is_up": "1"})
        )
        finish(job)
        text = _text(admin.get(_at(network.host, f"/plans/{job.pk}")))
        assert "was not made here" in text
        editor = _text(admin.get(_at(network.host, "/edit", draft=str(job.pk))))
        assert "name: eth0" in editor

    def test_after_the_ground_has_moved_there_is_a_new_plan_and_nothing_is_lost(
        self, admin: Client, network: OwnNetwork, alice: User
    ) -> None:
        mine = _planned(
            admin.post(_at(network.host, "/form", kind="bridge"), {"name": "mine", "is_up": "1"})
        )
        finish(mine)
        network.apply(alice, LAB)
        page = _at(network.host, f"/plans/{mine.pk}")
        text = _text(admin.get(page))
        assert "The ground has moved" in text
        answer = admin.post(f"{page}/again", follow=True)
        assert "This is the new plan" in _text(answer)
        again = Job.objects.filter(kind=hostnet.preview.kind).latest("created")
        names = {one["name"] for one in again.arguments["document"]["links"]}
        assert names == {"br-lab", "mine"}
        finish(again)
        assert again.result["before"] == whole(LAB)

    def test_what_is_being_applied_is_followed(self, admin: Client, network: OwnNetwork) -> None:
        plan = finish(
            _planned(
                admin.post(_at(network.host, "/form", kind="bridge"), {"name": "a", "is_up": "1"})
            )
        )
        page = _at(network.host, f"/plans/{plan.pk}")
        answer = admin.post(f"{page}/apply")
        job = Job.objects.get(kind=hostnet.apply.kind)
        assert answer["Location"] == f"{page}?applying={job.pk}"
        assert f"job:{job.pk}" in _text(admin.get(answer["Location"]))
        finish(job)
        region = html.fromstring(admin.get(answer["Location"]).content)
        change = NetworkChange.objects.get()
        assert region.get_element_by_id("hostnet-plan").get("data-goto") == _at(
            network.host, f"/changes/{change.pk}"
        )
        text = _text(admin.get(_at(network.host, f"/changes/{change.pk}")))
        assert "ip link add name a type bridge" in text
        assert "Undo" in text


class TestTheEditor:
    def test_it_begins_with_what_is_wanted(self, admin: Client, wanting: Host) -> None:
        tree = html.fromstring(admin.get(_at(wanting, "/edit")).content)
        assert "name: br-vlan" in tree.get_element_by_id("yaml").text_content()

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("links: [", "Line 1"),
            ("- a", "Write fields"),
            ("links: [{kind: bridge, name: a/b}]", "links.0 (a/b).name"),
            ("links: [{kind: bridge, name: a, mtu: 7}]", "links.0 (a).mtu"),
            ("links: [{kind: spoon, name: a}]", "links.0 (a)"),
            ("surprise: 1", "surprise"),
            ("links: [{kind: bridge, name: a}, {kind: dummy, name: a}]", "there twice"),
            ("a: !!python/object/apply:os.system ['id']", "Line 1"),
            ("a: &a [*a]", "no such field"),
        ],
    )
    def test_what_is_wrong_is_said_and_the_text_kept(
        self, admin: Client, local: Host, text: str, sentence: str
    ) -> None:
        answer = admin.post(_at(local, "/edit"), {"text": text, "base": ""})
        assert sentence in _text(answer, 422)
        assert html.fromstring(answer.content).get_element_by_id("yaml").value == text
        assert not Job.objects.exists()

    def test_what_others_did_meanwhile_is_kept(
        self, admin: Client, network: OwnNetwork, alice: User
    ) -> None:
        tree = html.fromstring(admin.get(_at(network.host, "/edit")).content)
        base = tree.xpath('//input[@name="base"]')[0].get("value")
        network.apply(alice, LAB)
        text = "links: [{kind: bridge, name: mine}]"
        answer = admin.post(_at(network.host, "/edit"), {"text": text, "base": base}, follow=True)
        assert "The ground has moved" in _text(answer)
        job = Job.objects.filter(kind=hostnet.preview.kind).latest("created")
        assert {one["name"] for one in job.arguments["document"]["links"]} == {"br-lab", "mine"}


class TestTheBanner:
    @pytest.fixture
    def change(self, network: OwnNetwork, alice: User) -> NetworkChange:
        document = {"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]}
        network.apply(alice, document)
        return network.last

    def test_it_is_on_every_page_of_the_host(
        self, viewer: Client, network: OwnNetwork, change: NetworkChange
    ) -> None:
        for rest in ("", "/devices", "/xml", "/network", "/network/changes"):
            text = _text(viewer.get(f"/hosts/{network.host.pk}{rest}"))
            assert "The host's network was changed." in text
            assert "data-countdown=" in text
        assert _at(network.host, "/do/confirm") in _text(viewer.get(_at(network.host, "/banner")))

    def test_it_goes_when_the_change_is_kept(
        self, admin: Client, network: OwnNetwork, change: NetworkChange
    ) -> None:
        assert admin.post(_at(network.host, "/do/confirm"), headers=HTMX).status_code == 200
        finish(Job.objects.get(kind=hostnet.confirm.kind))
        assert "was changed" not in _text(admin.get(_at(network.host, "/banner")))
        change.refresh_from_db()
        assert change.state == ChangeState.APPLIED

    def test_nothing_else_can_be_applied_meanwhile(
        self, admin: Client, network: OwnNetwork, change: NetworkChange
    ) -> None:
        plan = finish(
            _planned(
                admin.post(_at(network.host, "/form", kind="bridge"), {"name": "a", "is_up": "1"})
            )
        )
        answer = admin.post(_at(network.host, f"/plans/{plan.pk}/apply"), follow=True)
        assert "The last change still waits" in _text(answer)


class TestQuestions:
    def test_a_command_is_told_apart_into_words(self, admin: Client, network: OwnNetwork) -> None:
        address = _at(network.host, "/ask/run_command")
        answer = admin.post(address, {"command": "ip -br  'a'", "router": ""}, headers=HTMX)
        job = Job.objects.get()
        assert job.arguments == {"command": ["ip", "-br", "a"], "router": ""}
        assert f'data-url="{_at(network.host, f"/answers/{job.pk}")}"' in _text(answer)
        finish(job)
        text = _text(admin.get(_at(network.host, f"/answers/{job.pk}")))
        assert "192.0.2.10/24" in text

    @pytest.mark.parametrize("command", ["", "ping 'half", "rm -rf /"])
    def test_what_cannot_be_run_says_so(
        self, admin: Client, network: OwnNetwork, command: str
    ) -> None:
        address = _at(network.host, "/ask/run_command")
        answer = admin.post(address, {"command": command}, headers=HTMX)
        if answer.status_code == 200:
            job = finish(Job.objects.get())
            assert job.state == JobState.FAILED
            assert "Only commands that look" in _text(
                admin.get(_at(network.host, f"/answers/{job.pk}"))
            )
        else:
            assert 'role="alert"' in _text(answer, 422)

    def test_there_are_no_other_questions(self, admin: Client, local: Host) -> None:
        assert admin.post(_at(local, "/ask/apply")).status_code == 404
        assert admin.get(_at(local, "/do/apply")).status_code == 404


class TestWithAnAgent:
    @pytest.fixture
    def browser(self, followed: Followed) -> Client:
        return signed_in(followed.alice)

    def test_from_a_form_to_a_bridge_and_back(self, browser: Client, followed: Followed) -> None:
        host = followed.host
        data = {"name": "br-lab", "addresses": "10.5.5.1/24", "is_up": "1"}
        plan = browser.post(_at(host, "/form", kind="bridge"), data)
        answer = browser.post(f"{plan['Location']}/apply")
        assert answer["Location"] == _at(host, f"/changes/{followed.last.pk}")
        assert "10.5.5.1/24" in followed.own.execute("ip", "address", "show", "br-lab")
        assert "Undo" in _text(browser.get(answer["Location"]))
        browser.post(_at(host, "/do/undo"), headers=HTMX)
        assert "br-lab" not in followed.own.execute("ip", "link")

    def test_what_the_host_finds_wrong_is_said_at_its_field(
        self, browser: Client, followed: Followed
    ) -> None:
        address = _at(followed.host, "/form", kind="bridge")
        answer = browser.post(address, {"name": "eth0", "is_up": "1"})
        assert "was not made here" in _error(answer, "name")
        answer = browser.post(
            address, {"name": "b", "addresses": "10.1.1.1/24, 192.0.2.77/24", "is_up": "1"}
        )
        assert "overlaps" in _error(answer, "addresses")

    def test_two_administrators_lose_nothing(self, browser: Client, followed: Followed) -> None:
        host = followed.host
        mine = browser.post(_at(host, "/form", kind="bridge"), {"name": "mine", "is_up": "1"})
        followed.apply(LAB)
        answer = browser.post(f"{mine['Location']}/apply", follow=True)
        assert "The ground has moved" in _text(answer)
        again = answer.redirect_chain[-1][0]
        assert again != mine["Location"]
        browser.post(f"{again}/apply")
        links = followed.own.execute("ip", "link")
        assert "mine" in links
        assert "br-lab" in links
