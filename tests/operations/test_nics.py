"""What may be done with NICs, on libvirt's test driver: it refuses devices, but not machines."""

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from lxml import etree

from kvmweb.models import (
    Host,
    HostNetwork,
    HostState,
    Job,
    JobState,
    MacClaim,
    Machine,
    Network,
    Nic,
    NodeDevice,
    NwFilter,
    State,
    User,
)
from kvmweb.operations import creation, nics
from kvmweb.operations.nics import macs, sources
from kvmweb.operations.nics.settings import Change, settings_of, write
from kvmweb.operations.operation import Forbidden, Invalid, Operation
from kvmweb.spec.devices.interface import OFF_ON_NETDEV, Interface
from kvmweb.spec.nics import interfaces
from kvmweb.spec.xml import parse
from kvmweb.virt.errors import OperationError
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
GOLDEN = Path(__file__).parents[1] / "spec/golden/interface.xml"
MAC = "52:54:00:00:00:01"
NEW = """<domain type='test'><name>{}</name><memory>65536</memory><os><type>hvm</type></os><devices>
<interface type='network'>{}<source network='default'/></interface></devices></domain>"""
DOMAIN = """<domain type='qemu'><name>web1</name><os><type arch='x86_64'>hvm</type>{}</os><devices>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>
<model type='virtio'/></interface></devices></domain>"""
SWITCHED = """<network><name>switched</name><forward mode='bridge'/><bridge name='br-int'/>
<virtualport type='openvswitch'/><portgroup name='v10'/></network>"""
ACTUAL: dict[str, Any] = {
    "links": [
        {"namespace": "", "name": "br0", "kind": "bridge"},
        {"namespace": "", "name": "virbr0", "kind": "bridge"},
        {"namespace": "", "name": "eth0", "kind": "physical"},
        {"namespace": "", "name": "vx0", "kind": "vxlan", "master": "br0"},
        {"namespace": "red", "name": "inner", "kind": "physical"},
    ],
    "switches": [
        {
            "name": "br-int",
            "datapath_type": "netdev",
            "ports": [
                {"name": "to-tun", "interfaces": [
                    {"name": "to-tun", "type": "patch", "options": {"peer": "to-int"}}]},
            ],
        },
        {
            "name": "br-tun",
            "datapath_type": "system",
            "ports": [
                {"name": "to-int", "interfaces": [
                    {"name": "to-int", "type": "patch", "options": {"peer": "to-tun"}}]},
                {"name": "gre0", "interfaces": [{"name": "gre0", "type": "gre"}]},
            ],
        },
        {"name": "br-plain", "datapath_type": "system", "ports": []},
    ],
}  # fmt: skip


@pytest.fixture
def local(transactional_db: None) -> Host:
    host = Host.objects.create(
        name="local", uri="qemu:///system", state=HostState.CONNECTED, driver="QEMU",
        libvirt_version="9.0.0", architecture="x86_64",
    )  # fmt: skip
    HostNetwork.objects.create(host=host, actual=ACTUAL)
    for name, mode, bridge, xml in (
        ("default", "nat", "virbr0", "<network/>"),
        ("switched", "bridge", "br-int", SWITCHED.replace("\n", "")),
        ("off", "nat", "virbr1", "<network/>"),
    ):
        Network.objects.create(
            host=host, uuid=uuid.uuid4(), name=name, forward_mode=mode, bridge=bridge, xml=xml,
            is_active=name != "off",
        )  # fmt: skip
    NwFilter.objects.create(host=host, uuid=uuid.uuid4(), name="clean-traffic", xml="<filter/>")
    return host


@pytest.fixture
def web1(local: Host) -> Machine:
    return Machine.objects.create(
        host=local, uuid=uuid.uuid4(), name="web1", state=State.RUNNING, xml=DOMAIN.format("")
    )


def _refused(operation: Operation, user: User, machine: Machine, **arguments: Any) -> Any:
    with pytest.raises(Invalid) as refused:
        operation.submit(user, machine, arguments)
    assert not Job.objects.exists()
    return refused.value.fields


# The document


@pytest.mark.parametrize("number", range(10))
def test_setting_what_is_set_changes_nothing(number: int) -> None:
    card = interfaces(parse(GOLDEN.read_text()))[number]
    before = etree.tostring(card.tree)
    write(card, settings_of(card))
    assert etree.tostring(card.tree) == before


def test_another_model_gets_another_slot_a_relative_keeps_it() -> None:
    card = Interface(parse("<interface><model type='virtio'/><address type='pci'/></interface>"))
    write(card, {"model": "virtio-transitional"})
    assert card.tree.find("address") is not None
    write(card, {"model": "e1000"})
    assert card.tree.find("address") is None


def test_a_job_carries_what_was_given_and_nothing_else() -> None:
    change = Change.model_validate({"nic": MAC, "mtu": "", "trunks": "20-22, 10", "queues": "4"})
    again = Change.model_validate(change.model_dump(mode="json"))
    assert again.changes == {"mtu": None, "trunks": [10, 20, 21, 22], "queues": 4}


# What is wrong


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"source": "network:gone"}, "source", "There is no virtual network “gone”"),
        ({"source": "network:off"}, "source", "is not active"),
        ({"source": ""}, "source", "Choose what it is plugged into"),
        ({"source": "bridge:"}, "source", "Enter the name of the bridge"),
        ({"source": "bridge:a/b"}, "source", "no slash"),
        ({"source": "hostdev:03:00"}, "source", "not the address of a PCI device"),
        ({"source": "vdpa:dev"}, "source", "the whole path"),
        ({"source": "network:switched", "portgroup": "v99"}, "portgroup", "no port group “v99”"),
        ({"portgroup": "v10"}, "portgroup", "Only virtual networks"),
        ({"macvtap_mode": "vepa"}, "macvtap_mode", "for interfaces of the host"),
        ({"vlan": 10}, "vlan", "Open vSwitch"),
        ({"source": "network:default", "vlan": 10}, "vlan", "Open vSwitch"),
        ({"source": "ovs:br-int", "trunks": "4095"}, "trunks", "4095 is reserved"),
        ({"source": "ovs:br-int", "trunks": "x;y"}, "trunks", "is not a VLAN"),
        ({"source": "ovs:br-int", "trunks": "0, 10"}, "trunks", "0 is no VLAN"),
        ({"source": "ovs:br-int", "is_isolated": True}, "is_isolated", "Linux bridges"),
        ({"source": "ovs:br-int", "filter": "clean-traffic"}, "filter", "Open vSwitch"),
        ({"filter": "gone"}, "filter", "no network filter “gone”"),
        ({"filter_parameters": "IP=1.2.3.4"}, "filter", "Choose the filter"),
        ({"filter": "clean-traffic", "filter_parameters": "$(id)"}, "filter_parameters", "is not"),
        ({"in_burst": 5}, "in_average", "Enter the average too"),
        ({"in_floor": 5, "in_average": 9}, "in_floor", "Only a virtual network"),
        ({"source": "user", "out_average": 5}, "out_average", "Nothing on the host"),
        ({"mac": "x"}, "mac", "is not a MAC address"),
        ({"mac": "53:54:00:00:00:01"}, "mac", "multicast"),
        ({"mac": ""}, "mac", "Enter a MAC address"),
        ({"model": "e1000e", "host_csum": "off"}, "host_csum", "Only a virtio card"),
        ({"port_forwards": "tcp 80"}, "port_forwards", "Only passt"),
        ({"guest_address": "10.0.0.0/24"}, "guest_address", "user mode"),
        ({"rx_queue_size": 300}, "rx_queue_size", "256, 512 or 1024"),
        ({"tap_name": "vnet7"}, "tap_name", "libvirt's own"),
        ({"tap_name": "; rm -rf"}, "tap_name", "no slash, colon or space"),
        ({"nic": "52:54:00:99:99:99"}, "nic", "has no NIC"),
        ({}, "nic", "Nothing is changed"),
    ],
)
def test_a_change_that_can_not_be_is_refused_at_its_field(
    changes: dict[str, Any], field: str, sentence: str, web1: Machine, alice: User
) -> None:
    found = _refused(nics.edit, alice, web1, **{"nic": MAC, **changes})
    assert found.keys() == {field}
    assert sentence in found[field]


def test_a_place_in_the_boot_order_does_not_go_with_kinds_of_devices(
    web1: Machine, alice: User
) -> None:
    Machine.objects.update(xml=DOMAIN.format("<boot dev='hd'/>"))
    web1.refresh_from_db()
    assert "boot_order" in _refused(nics.edit, alice, web1, nic=MAC, boot_order=1)


def test_an_alias_that_another_device_has_is_refused(web1: Machine, alice: User) -> None:
    other = "<devices><disk><alias name='ua-data'/></disk>"
    Machine.objects.update(xml=DOMAIN.format("").replace("<devices>", other))
    web1.refresh_from_db()
    assert "alias" in _refused(nics.edit, alice, web1, nic=MAC, alias="data")


def test_libvirt_before_9_has_no_passt(web1: Machine, alice: User) -> None:
    Host.objects.update(libvirt_version="8.10.0")
    web1.refresh_from_db()
    assert "too old for passt" in _refused(nics.add, alice, web1, source="passt")["source"]


def test_a_driver_that_can_not_change_devices_says_so(agent: Stage, alice: User) -> None:
    job = agent.finish(nics.add.submit(alice, agent.machine(), {"source": "network:default"}))
    assert job.state == JobState.FAILED
    assert "not supported" in job.error
    assert not MacClaim.objects.exists()
    assert len(Nic.objects.filter(machine=agent.machine())) == 1


# Who may


def test_only_who_edits_hardware_may_change_nics(
    web1: Machine, bob: User, victor: User, charlie: User
) -> None:
    for user in (bob, victor, charlie):
        for operation in (nics.add, nics.edit, nics.remove):
            with pytest.raises(Forbidden):
                operation.submit(user, web1, {"nic": MAC})
    for user in (victor, charlie):
        with pytest.raises(Forbidden):
            nics.set_link.submit(user, web1, {"nic": MAC, "up": False})
    assert nics.set_link.submit(bob, web1, {"nic": MAC, "up": False}).kind == "nics.set_link"


# MAC addresses


def _owner(host: Host, name: str = "new") -> macs.Owner:
    return macs.Owner(host, uuid.uuid4(), name)


def _mirrored(owner: macs.Owner, *addresses: str) -> None:
    machine = Machine.objects.create(host=owner.host, uuid=owner.uuid, name=owner.name, xml="<a/>")
    for index, mac in enumerate(addresses):
        Nic.objects.create(machine=machine, host=owner.host, index=index, mac=mac, kind="network")


@pytest.mark.parametrize(("driver", "prefix"), [("QEMU", "52:54:00:"), ("Xen", "00:16:3e:")])
def test_a_free_address_is_chosen_and_let_go_when_the_mirror_has_it(
    driver: str, prefix: str, local: Host
) -> None:
    local.driver = driver
    owner = _owner(local)
    with macs.claimed(owner, ["", ""], field="mac") as chosen:
        assert all(mac.startswith(prefix) for mac in chosen)
        assert MacClaim.objects.count() == 2
        _mirrored(owner, *chosen)
    assert not MacClaim.objects.exists()


def test_an_address_on_another_host_is_taken_and_its_machine_named(local: Host) -> None:
    rack7 = Host.objects.create(name="rack7", uri="qemu+ssh://rack7/system")
    _mirrored(_owner(rack7, "mail"), MAC)
    with pytest.raises(OperationError) as taken, macs.claimed(_owner(local), [MAC], field="mac"):
        pass
    assert "“mail” on rack7 has the MAC address 52:54:00:00:00:01" in taken.value.sentence
    assert taken.value.field == "mac"
    assert not MacClaim.objects.exists()


def test_an_address_twice_in_one_document_is_refused(local: Host) -> None:
    with (
        pytest.raises(OperationError, match="Two NICs have"),
        macs.claimed(_owner(local), [MAC, MAC.upper()], field="xml"),
    ):
        pass
    assert not MacClaim.objects.exists()


def test_a_claim_of_a_job_long_over_is_nobodys(local: Host) -> None:
    MacClaim.objects.create(mac=MAC, host=local, machine=uuid.uuid4(), machine_name="old")
    MacClaim.objects.update(created="2020-01-01T00:00:00Z")
    owner = _owner(local)
    with macs.claimed(owner, [MAC], field="mac"):
        assert MacClaim.objects.get().machine_name == "new"
        _mirrored(owner, MAC)


def test_of_many_who_want_an_address_at_once_one_gets_it(local: Host) -> None:
    ready, won, lost = threading.Barrier(8), [], []

    def want(number: int) -> None:
        owner = _owner(local, f"m{number}")
        ready.wait(10)
        try:
            with macs.claimed(owner, [MAC], field="mac"):
                _mirrored(owner, MAC)
                won.append(owner.name)
        except OperationError as error:
            lost.append(error.sentence)
        finally:
            connection.close()

    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    assert len(lost) == 7
    assert all(f"“{won[0]}” on local has" in sentence for sentence in lost)
    assert not MacClaim.objects.exists()


def test_two_machines_created_at_once_never_share_an_address(agent: Stage, alice: User) -> None:
    mac = "52:54:00:00:77:77"
    wishes = [
        {"xml": NEW.format(name, f"<mac address='{mac}'/>")} for name in ("a1", "a2", "a3", "a4")
    ]
    jobs = [creation.create.submit(alice, agent.host, wish) for wish in wishes]
    ended = [agent.finish(job) for job in jobs]
    assert sorted(job.state for job in ended) == ["done", "failed", "failed", "failed"]
    assert all("has the MAC address" in job.error for job in ended if job.error)
    names = [dom.name() for dom in agent.connection.listAllDomains()]
    assert len([name for name in names if name.startswith("a")]) == 1
    assert Nic.objects.filter(mac=mac).count() == 1


def test_a_pasted_machine_without_addresses_gets_free_ones(agent: Stage, alice: User) -> None:
    for name in ("a1", "a2"):
        wish = {"xml": NEW.format(name, "")}
        assert agent.finish(creation.create.submit(alice, agent.host, wish)).state == "done"
    found = Nic.objects.filter(machine__name__in=("a1", "a2")).values_list("mac", flat=True)
    assert len(set(found)) == 2


def test_the_wizards_machine_has_the_address_that_was_wished(agent: Stage, alice: User) -> None:
    wish = {"name": "a1", "source": "blank", "network": "network:default",
            "mac": "52:54:00:00:77:01"}  # fmt: skip
    job = agent.finish(creation.create.submit(alice, agent.host, wish))
    assert job.state == "done", job.error
    assert Nic.objects.get(machine__name="a1").mac == "52:54:00:00:77:01"
    with pytest.raises(Invalid) as refused:
        creation.create.submit(alice, agent.host, {**wish, "name": "a2"})
    assert "“a1” on local" in refused.value.fields["mac"]


# Where it can be plugged in, and what that asks of it


def test_sources_are_the_hosts_own(local: Host) -> None:
    NodeDevice.objects.create(
        host=local, name="pci_0000_03_10_1", capability="pci",
        xml="<device><capability type='pci'><domain>0</domain><bus>3</bus><slot>16</slot>"
        "<function>1</function><product>VF</product><capability type='phys_function'/>"
        "</capability></device>",
    )  # fmt: skip
    found = {label: [value for value, *_ in rows] for label, rows in sources.offered(local).items()}
    assert found == {
        "Virtual networks": ["network:default", "network:off", "network:switched"],
        "Open vSwitch bridges": ["ovs:br-int", "ovs:br-plain", "ovs:br-tun"],
        "Bridges of the host": ["bridge:br0"],
        "Interfaces of the host (macvtap)": ["direct:eth0"],
        "User mode": ["user", "passt"],
        "Passed-through devices (SR-IOV)": ["hostdev:0000:03:10.1"],
    }
    assert sources.default_source(local) == "network:default"
    assert sources.portgroups(local) == {"switched": ["v10"]}
    other = Host.objects.create(name="other", uri="qemu:///system", driver="QEMU")
    assert list(sources.offered(other)) == ["User mode"]
    assert sources.default_source(other) == "user"


@pytest.mark.parametrize(
    ("source", "has_offloads_off", "mtu"),
    [
        ("ovs:br-int", True, 1450),  # through the patch port to the tunnel
        ("network:switched", True, 1450),
        ("ovs:br-tun", False, 1450),
        ("ovs:br-plain", False, None),
        ("bridge:br0", False, 1400),  # a kernel tunnel is a port of it
        ("network:default", False, None),
        ("user", False, None),
    ],
)
def test_a_source_asks_for_what_gets_tcp_through(
    source: str, has_offloads_off: bool, mtu: int | None, local: Host
) -> None:
    asked = sources.asked(local, source)
    offloads = {name for name in OFF_ON_NETDEV if asked.settings.get(name) == "off"}
    assert offloads == (set(OFF_ON_NETDEV) if has_offloads_off else set())
    assert asked.settings.get("mtu") == mtu
    assert len(asked.reasons) == has_offloads_off + (mtu is not None)


def test_a_network_with_an_mtu_of_its_own_is_left_to_it(local: Host) -> None:
    Network.objects.filter(name="switched").update(xml="<network><mtu size='1300'/></network>")
    assert "mtu" not in sources.asked(local, "network:switched").settings


@pytest.mark.parametrize(
    ("xml", "model"),
    [
        (DOMAIN.format(""), "virtio"),
        ("<domain><devices/></domain>", "virtio"),
        ("<domain><metadata>http://microsoft.com/win/10</metadata></domain>", "e1000e"),
        (DOMAIN.format("").replace("virtio", "rtl8139"), "rtl8139"),
    ],
)
def test_a_new_card_is_one_the_guest_knows(xml: str, model: str, web1: Machine) -> None:
    web1.xml = xml
    assert sources.default_model(web1) == model


def test_models_are_qemus_own_once_it_was_asked(web1: Machine, alice: User) -> None:
    assert "virtio" in sources.models(web1)
    Host.objects.update(nic_models={"x86_64": {"version": "7.2.22", "models": ["virtio", "tulip"]}})
    web1.refresh_from_db()
    assert sources.models(web1) == ["virtio", "tulip"]
    sentence = _refused(nics.edit, alice, web1, nic=MAC, model="ne9999")["model"]
    assert sentence == "QEMU on this host has no network card “ne9999”."


def test_the_mirror_has_the_nics_of_the_test_driver(agent: Stage) -> None:
    row = until(lambda: Nic.objects.filter(machine=agent.machine()).first())
    assert (row.mac, row.kind, row.source) == (MAC, "network", "default")
