"""Security groups in the database, and what a host needs of them; tests/real has them in force."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from kvmweb.models import (
    Host,
    HostState,
    Job,
    JobState,
    Machine,
    Nic,
    NwFilter,
    SecurityGroup,
    User,
)
from kvmweb.models.filters import members, memberships
from kvmweb.operations import enforcement, security_groups
from kvmweb.operations.operation import Conflict, Forbidden, Invalid
from kvmweb.spec import security
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db
IN_80 = {"direction": "in", "protocol": "tcp", "ports": "80"}


@pytest.fixture
def host(db: None) -> Host:
    return Host.objects.create(
        name="h", uri="qemu:///system", state=HostState.CONNECTED, has_filters=True
    )


@pytest.fixture
def web(db: None) -> SecurityGroup:
    return SecurityGroup.objects.create(name="web", rules=[IN_80])


def make_nic(host: Host, name: str, group: str = "", *addresses: dict[str, Any]) -> Nic:
    machine = Machine.objects.create(
        host=host, uuid=uuid.uuid4(), name=name, state="running", xml="<domain/>"
    )
    return Nic.objects.create(
        machine=machine, host=host, index=0, kind="bridge", mac=f"52:54:00:00:00:{machine.pk:02x}",
        filter=security.filter_name(group) if group else "", addresses=list(addresses),
    )  # fmt: skip


def make_filter(host: Host, name: str, xml: str, **fields: Any) -> NwFilter:
    key = fields.pop("uuid", security.filter_uuid(name))
    return NwFilter.objects.create(host=host, uuid=key, name=name, xml=xml, **fields)


@pytest.mark.django_db(transaction=True)
def test_a_group_lives_without_any_host(agent: Stage, alice: User) -> None:
    def do(kind: Any, target: Any = None, **arguments: Any) -> Job:
        job = agent.finish(kind.submit(alice, target, arguments))
        assert job.state == JobState.DONE, job.error
        return job

    job = do(security_groups.create, name="web", description="Front")
    group = SecurityGroup.objects.get()
    assert job.result == {"uuid": str(group.uuid), "name": "web"}
    assert [rule["direction"] for rule in group.rules] == ["out"]
    do(security_groups.add_rule, group, **IN_80)
    do(security_groups.edit_rule, group, place=1, protocol="icmp", version=2)
    group.refresh_from_db()
    assert [rule["protocol"] for rule in group.rules] == ["any", "icmp"]
    assert group.version == 3
    late = agent.finish(
        security_groups.remove_rule.submit(alice, group, {"place": 0, "version": 2})
    )
    assert "Somebody has changed this group" in late.error
    lost = agent.finish(security_groups.remove_rule.submit(alice, group, {"place": 7}))
    assert (lost.error_field, lost.state) == ("place", JobState.FAILED)
    do(security_groups.remove_rule, group, place=0, version=3)
    do(security_groups.edit, group, description="Back", rules=[])
    group.refresh_from_db()
    assert (group.description, group.rules, group.version) == ("Back", [], 5)
    do(security_groups.delete, group)
    until(lambda: not SecurityGroup.objects.exists())


@pytest.mark.django_db(transaction=True)
def test_a_machine_of_a_driver_without_filters_says_so(agent: Stage, alice: User) -> None:
    SecurityGroup.objects.create(name="web")
    machine = agent.machine("web1")
    mac = Nic.objects.filter(machine=machine).values_list("mac", flat=True)[0]
    with pytest.raises(Conflict, match="has no network filters"):
        security_groups.attach.submit(alice, machine, {"mac": mac, "group": "web"})


def test_only_who_may_change_networks_changes_groups(
    bob: User, victor: User, charlie: User, host: Host, web: SecurityGroup
) -> None:
    machine = make_nic(host, "m").machine
    for user in (bob, victor, charlie):
        for operation, target in (
            (security_groups.create, None),
            (security_groups.edit, web),
            (security_groups.add_rule, web),
            (security_groups.edit_rule, web),
            (security_groups.remove_rule, web),
            (security_groups.delete, web),
            (security_groups.assign, machine),
            (security_groups.attach, machine),
            (security_groups.detach, machine),
            (security_groups.apply, host),
        ):
            assert operation.refusal(user, target) == "You are not allowed to change networks."
            with pytest.raises(Forbidden):
                operation.submit(user, target, {})


def test_what_is_wrong_is_said_before_there_is_a_job(alice: User, web: SecurityGroup) -> None:
    for operation, target, arguments, field in (
        (security_groups.create, None, {"name": "web"}, "name"),
        (security_groups.create, None, {"name": "Web"}, "name"),
        (security_groups.create, None, {"name": "x", "rules": [{"group": "no"}]}, "rules"),
        (security_groups.create, None, {"name": "x", "rules": [{"ports": "x"}]}, "rules.0.ports"),
        (security_groups.edit, web, {"rules": [{}] * 201}, "rules"),
        (security_groups.add_rule, web, {"group": "no"}, "group"),
        (security_groups.add_rule, web, {"ports": "0"}, "ports"),
    ):
        with pytest.raises(Invalid) as caught:
            operation.submit(alice, target, arguments)
        assert field in caught.value.fields, caught.value.fields
    assert not Job.objects.exists()


def test_one_in_use_is_not_deleted(alice: User, host: Host, web: SecurityGroup) -> None:
    other = SecurityGroup.objects.create(name="db", rules=[{**IN_80, "group": "web"}])
    with pytest.raises(Conflict, match="Rules of db are about it"):
        security_groups.delete.submit(alice, web)
    for number in range(7):
        make_nic(host, f"m{number}", "db")
    with pytest.raises(Conflict, match=r"m0 \(.+\).* and 2 more"):
        security_groups.delete.submit(alice, other)


def test_members_are_found_on_every_host_and_through_joined_groups(host: Host) -> None:
    far = Host.objects.create(name="far", uri="qemu:///system")
    name, xml = security.combined(["web", "db"], is_spoofing_prevented=False)
    make_filter(far, name, xml, references=["kvmweb-sg-db", "kvmweb-sg-web"])
    near, both, alone = (
        make_nic(host, "near", "web"),
        make_nic(far, "both"),
        make_nic(host, "alone"),
    )
    Nic.objects.filter(pk=both.pk).update(filter=name)
    assert members(["web", "db", "none"]) == {"web": [both, near], "db": [both], "none": []}
    both.refresh_from_db()
    found = memberships([near, both, alone])
    assert found[both.pk] == (["db", "web"], False)
    assert found[alone.pk] == ([], False)


def test_a_lease_is_worth_more_than_what_a_guest_says(host: Host, web: SecurityGroup) -> None:
    SecurityGroup.objects.create(name="db", rules=[{**IN_80, "group": "web"}])
    leased = {"address": "10.0.0.5", "prefix": 24, "from": "lease"}
    said = {"address": "10.0.0.99", "prefix": 24, "from": "agent"}
    make_nic(host, "a", "web", said, leased)
    make_nic(host, "b", "web", {**said, "address": "10.0.0.7"})
    xml = enforcement.compiled({"db"})["db"]
    assert "10.0.0.5" in xml
    assert "10.0.0.7" in xml
    assert "10.0.0.99" not in xml


def test_a_host_needs_the_filters_of_the_groups_it_uses(host: Host, web: SecurityGroup) -> None:
    SecurityGroup.objects.create(name="unused")
    assert enforcement.wanted(host) == {}
    assert not enforcement.is_stale(host)
    make_nic(host, "m", "web")
    wanted = enforcement.wanted(host)
    assert list(wanted) == ["kvmweb-sg-web"]
    assert enforcement.is_stale(host)
    row = make_filter(host, "kvmweb-sg-web", wanted["kvmweb-sg-web"])
    assert not enforcement.is_stale(host)
    SecurityGroup.objects.filter(pk=web.pk).update(rules=[])
    assert enforcement.is_stale(host)
    SecurityGroup.objects.filter(pk=web.pk).update(rules=[IN_80])
    Nic.objects.update(filter="")
    assert enforcement.leftovers(host) == [row]
    assert enforcement.leftovers(host, keep=row.name) == []


def test_what_only_the_next_start_uses_and_what_others_made_is_no_leftover(host: Host) -> None:
    later = make_nic(host, "later").machine
    later.inactive_xml = "<domain><filterref filter='kvmweb-sg-web'/></domain>"
    later.save()
    make_filter(host, "kvmweb-sg-web", "<filter/>")
    make_filter(host, "kvmweb-sg-theirs", "<filter/>", uuid=uuid.uuid4())
    assert enforcement.leftovers(host) == []


def test_the_agent_asks_for_what_differs_once_and_not_at_once_after_a_failure(
    host: Host, web: SecurityGroup
) -> None:
    security_groups.keep([host.pk])
    assert not Job.objects.exists()
    make_nic(host, "m", "web")
    for _again in range(2):
        security_groups.keep([host.pk])
    job = Job.objects.get()
    assert (job.kind, job.user, job.username) == ("security_groups.apply", None, "kvmweb")
    Job.objects.update(state=JobState.FAILED, ended=timezone.now())
    security_groups.keep([host.pk])
    assert Job.objects.count() == 1
    Job.objects.update(ended=timezone.now() - timedelta(minutes=2))
    security_groups.keep([host.pk])
    assert Job.objects.count() == 2
    Job.objects.all().delete()
    for fields in ({"state": HostState.UNREACHABLE}, {"has_filters": False}):
        Host.objects.filter(pk=host.pk).update(**fields)
        security_groups.keep([host.pk])
    assert not Job.objects.exists()


def test_asking_costs_little_where_there_are_no_groups(
    host: Host, django_assert_num_queries: Any
) -> None:
    for number in range(50):
        make_nic(host, f"m{number}")
    with django_assert_num_queries(3):  # hosts, groups, filters of ours
        security_groups.keep([host.pk])
