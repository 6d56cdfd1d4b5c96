"""NICs of the mirror, and the addresses they are seen with. Libvirt's own are in tests/real."""

import uuid
from typing import Any

import libvirt
import pytest
from pytest_django import DjangoAssertNumQueries

from kvmweb.mirror import machines, nics
from kvmweb.mirror.addresses import Watch
from kvmweb.models import Host, Machine, Network, Nic, State
from tests.conftest import WORLD

pytestmark = pytest.mark.django_db

CARD = "<interface type='{}'><mac address='{}'/><source {}/><target dev='tap0'/></interface>"
ONE = CARD.format("network", "52:54:00:00:00:01", "network='lan'")
TWO = CARD.format("bridge", "52:54:00:00:00:02", "bridge='br0'")


def _document(*cards: str) -> str:
    return f"<domain type='qemu'><name>m</name><devices>{''.join(cards)}</devices></domain>"


@pytest.fixture
def local(db: None) -> Host:
    return Host.objects.create(name="local", uri=f"test://{WORLD}")


def _machine(host: Host, xml: str, inactive: str = "", **fields: Any) -> Machine:
    values = {"state": State.RUNNING, "name": "m", **fields}
    machine = Machine.objects.create(
        host=host, uuid=uuid.uuid4(), xml=xml, inactive_xml=inactive, **values
    )
    nics.save(host, [machine], {})
    return machine


def _change(machine: Machine, xml: str, inactive: str = "", **fields: Any) -> None:
    for name, value in {"xml": xml, "inactive_xml": inactive, **fields}.items():
        setattr(machine, name, value)
    machine.save()
    nics.save(machine.host, [machine], {})


def _rows(machine: Machine) -> list[tuple[Any, ...]]:
    return list(machine.nics.values_list("index", "mac", "is_current", "is_kept"))


def test_cards_of_both_documents_are_there_once(local: Host) -> None:
    machine = _machine(local, _document(ONE), _document(ONE, TWO))
    assert _rows(machine) == [
        (0, "52:54:00:00:00:01", True, True), (1, "52:54:00:00:00:02", False, True),
    ]  # fmt: skip
    _change(machine, _document(ONE, TWO), _document(TWO))
    assert _rows(machine) == [
        (0, "52:54:00:00:00:01", True, False), (1, "52:54:00:00:00:02", True, True),
    ]  # fmt: skip
    _change(machine, _document(TWO))
    assert _rows(machine) == [(0, "52:54:00:00:00:02", True, True)]
    _change(machine, _document())
    assert _rows(machine) == []


def test_a_transient_machine_keeps_nothing(local: Host) -> None:
    machine = _machine(local, _document(ONE), is_persistent=False)
    assert _rows(machine) == [(0, "52:54:00:00:00:01", True, False)]


def test_addresses_follow_the_card_and_end_with_the_machine(local: Host) -> None:
    machine = _machine(local, _document(ONE, TWO))
    seen = [{"address": "10.0.0.2", "prefix": 24, "from": "arp"}]
    machine.nics.filter(index=1).update(addresses=seen)
    _change(machine, _document(TWO))
    assert machine.nics.get().addresses == seen
    _change(machine, _document(TWO), state=State.SHUTOFF)
    assert machine.nics.get().addresses == []


def test_machines_from_before_there_were_nics_get_theirs(local: Host) -> None:
    machine = Machine.objects.create(host=local, uuid=uuid.uuid4(), name="m", xml=_document(ONE))
    nics.complete(local)
    assert len(_rows(machine)) == 1


@pytest.fixture
def connection() -> libvirt.virConnect:
    return libvirt.open(f"test://{WORLD}")


def test_a_host_read_again_costs_no_query_for_its_nics(
    local: Host, connection: libvirt.virConnect, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    machines.read_all(local, connection)
    assert Nic.objects.filter(machine__name="web1").count() == 1
    # The machines, and whether any lacks its NICs.
    with django_assert_num_queries(2):
        machines.read_all(local, connection)


def test_many_machines_are_saved_with_few_queries(
    local: Host, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    made = Machine.objects.bulk_create(
        Machine(host=local, uuid=uuid.uuid4(), name=f"m{number}", xml=_document(ONE, TWO))
        for number in range(150)
    )
    with django_assert_max_num_queries(6):
        nics.save(local, made, {})
    assert Nic.objects.count() == 300


def test_leases_of_networks_are_seen_and_link_local_addresses_are_not(
    local: Host, connection: libvirt.virConnect
) -> None:
    machines.read_all(local, connection)
    mac = Nic.objects.get(machine__name="web1").mac
    leases = [
        {"mac": mac.upper(), "address": "192.168.122.9", "prefix": 24},
        {"mac": mac, "address": "fe80::1", "prefix": 64},
        {"mac": "52:54:00:99:99:99", "address": "192.168.122.10", "prefix": 24},
    ]
    Network.objects.create(
        host=local, uuid=uuid.uuid4(), name="lan", is_active=True, xml="<a/>", leases=leases
    )
    watch = Watch(local)
    watch.look(connection)
    found = {one["address"]: one["from"] for one in Nic.objects.get(mac=mac).addresses}
    assert found["192.168.122.9"] == "lease"
    assert "fe80::1" not in found
    assert "192.168.122.10" not in found
    Network.objects.update(leases=[])
    watch.look(connection)
    assert "192.168.122.9" not in {one["address"] for one in Nic.objects.get(mac=mac).addresses}


def test_machines_that_do_not_run_are_not_asked(
    local: Host, connection: libvirt.virConnect, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    _machine(local, _document(ONE), state=State.SHUTOFF)
    with django_assert_num_queries(1):
        Watch(local).look(connection)
