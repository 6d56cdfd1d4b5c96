"""Security groups: their rules, and which NICs they are for. What a host needs of them is
brought to it by ``apply``, which the agent asks for where ``enforcement`` finds a difference.
"""

import contextlib
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Annotated, Any

from django.utils import timezone
from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import Field

from kvmweb.mirror import hostnet
from kvmweb.models import Host, HostState, Job, JobState, Machine, NwFilter, SecurityGroup, User
from kvmweb.models.access import NETWORKS
from kvmweb.models.filters import members
from kvmweb.models.jobs import UNFINISHED
from kvmweb.models.live import announce, wake_agents
from kvmweb.net.errors import NetError
from kvmweb.operations import enforcement, filters, nic_filters
from kvmweb.operations.operation import operation
from kvmweb.spec import security
from kvmweb.spec.hostnet import Address
from kvmweb.spec.nwfilter import Reference
from kvmweb.spec.security import EVERYTHING_OUT, Name, Rule, Rules
from kvmweb.virt.errors import OperationError

Description = Annotated[str, Field(max_length=500, title="Description")]
GroupName = Annotated[str, Field(min_length=1, max_length=63, title="Security group")]
Mac = Annotated[
    str, Field(min_length=1, max_length=17, title="NIC", description="Its MAC address.")
]
Version = Annotated[
    int,
    Field(
        ge=0,
        title="Version",
        description="The one that was looked at, so that no newer one is overwritten; 0: any.",
    ),
]
Place = Annotated[int, Field(ge=0, title="Place", description="Of the rule, from 0.")]
Prevents = Annotated[
    bool,
    Field(
        title="Prevent spoofing",
        description="Only the NIC's own MAC and IPv4 addresses get out, and no IPv6 at all "
        "(libvirt's filter clean-traffic).",
    ),
]
Addresses = Annotated[
    list[Address],
    Field(
        title="IPv4 addresses of the NIC",
        description="Where spoofing is prevented. Empty: libvirt takes the first one it sees.",
        max_length=20,
    ),
]


TRY_AGAIN_AFTER = 60  # seconds, where bringing a host up to date failed


class RuleArguments(Rule):
    version: Version = 0


class PlacedRuleArguments(RuleArguments):
    place: Place


def _check_create(target: None, arguments: Any) -> dict[str, str]:
    if SecurityGroup.objects.filter(name=arguments.name).exists():
        return {"name": now("There is a security group named %s already.") % arguments.name}
    return _check_rules(arguments.rules)


def _check_edit(group: SecurityGroup, arguments: Any) -> dict[str, str]:
    return _check_rules(arguments.rules)


def _check_rule(group: SecurityGroup, arguments: Any) -> dict[str, str]:
    found = _check_rules([arguments])
    return {"group": found["rules"]} if found else {}


def _check_rules(rules: list[Rule]) -> dict[str, str]:
    named = {rule.group for rule in rules if rule.group}
    known = set(SecurityGroup.objects.filter(name__in=named).values_list("name", flat=True))
    missing = sorted(named - known)
    return {"rules": now("There is no security group named %s.") % missing[0]} if missing else {}


def users_sentence(group: SecurityGroup) -> str:
    """Why it can't be deleted: who uses it; "" where nobody does."""
    nics = members([group.name])[group.name]
    names = [f"{nic.machine.name} ({nic.mac})" for nic in nics]
    others = [one.name for one in SecurityGroup.objects.all() if _names(one, group.name)]
    if names:
        more = now(" and %d more") % (len(names) - 5) if len(names) > 5 else ""
        return now("It is in use by %s. Take their NICs out of it first.") % (
            ", ".join(names[:5]) + more
        )
    if others:
        return now("Rules of %s are about it. Remove them first.") % ", ".join(others[:5])
    return ""


def _unsupported(machine: Machine) -> str:
    return filters.unsupported(machine.host)


def _names(one: SecurityGroup, name: str) -> bool:
    return one.name != name and any(rule.get("group") == name for rule in one.rules)


@operation(
    _("New security group"),
    needs=NETWORKS,
    icon="shield-plus",
    is_for_site=True,
    check=_check_create,
)
def create(
    job: Job,
    *,
    name: Name,
    description: Description = "",
    rules: Rules = [EVERYTHING_OUT],  # noqa: B006
) -> None:
    """A security group. Without rules of its own it lets everything out and nothing in."""
    plain = [rule.model_dump() for rule in rules]
    group, is_new = SecurityGroup.objects.get_or_create(
        name=name, defaults={"description": description, "rules": plain}
    )
    if not is_new:
        raise OperationError(_("There is a security group named %s already.") % name, field="name")
    job.result = {"uuid": str(group.uuid), "name": name}
    announce(group.topic, "security-groups")


@operation(_("Edit"), needs=NETWORKS, icon="pencil", is_for_site=True, check=_check_edit)
def edit(
    job: Job,
    group: SecurityGroup,
    *,
    description: Description = "",
    rules: Rules,
    version: Version = 0,
) -> None:
    """Replace description and rules; the machines in the group follow at once."""
    _save(job, group, version, lambda old: [rule.model_dump() for rule in rules], description)


@operation(_("Add rule"), needs=NETWORKS, icon="plus", is_for_site=True, check=_check_rule)
def add_rule(job: Job, group: SecurityGroup, *, rule: RuleArguments) -> None:
    """Allow something more."""
    _save(job, group, rule.version, lambda old: [*old, _plain(rule)])


@operation(_("Edit rule"), needs=NETWORKS, icon="pencil", is_for_site=True, check=_check_rule)
def edit_rule(job: Job, group: SecurityGroup, *, rule: PlacedRuleArguments) -> None:
    """Allow something else."""
    _save(job, group, rule.version, lambda old: _replaced(old, rule.place, [_plain(rule)]))


@operation(_("Remove rule"), needs=NETWORKS, icon="trash", is_dangerous=True, is_for_site=True)
def remove_rule(job: Job, group: SecurityGroup, *, place: Place, version: Version = 0) -> None:
    """Allow it no more. Connections that only this rule allowed end."""
    _save(job, group, version, lambda old: _replaced(old, place, []))


@operation(
    _("Delete"),
    needs=NETWORKS,
    icon="trash",
    is_dangerous=True,
    is_for_site=True,
    confirm=_("The group and its rules are gone for good."),
    unless=users_sentence,
)
def delete(job: Job, group: SecurityGroup) -> None:
    """Remove the group; refused while a NIC is in it or a rule is about it."""
    if sentence := users_sentence(group):
        raise OperationError(sentence)
    group.delete()
    announce(group.topic, "security-groups")
    _spread(job)


@operation(_("Security groups"), needs=NETWORKS, icon="shield", unless=_unsupported)
def assign(
    job: Job,
    machine: Machine,
    *,
    mac: Mac,
    groups: Annotated[list[GroupName], Field(title="Security groups", max_length=20)] = [],  # noqa: B006
    prevents_spoofing: Prevents = False,
    addresses: Addresses = [],  # noqa: B006
) -> None:
    """Put a NIC into exactly these groups; without any, and unless spoofing is to be prevented,
    everything passes again.
    """
    _assign(job, machine, mac, set(groups), prevents=prevents_spoofing, addresses=addresses)


@operation(_("Put a NIC into the group"), needs=NETWORKS, icon="plug", unless=_unsupported)
def attach(job: Job, machine: Machine, *, mac: Mac, group: GroupName) -> None:
    """Put a NIC into one more group."""
    groups, prevents, addresses = _present(machine, mac)
    _assign(job, machine, mac, {*groups, group}, prevents=prevents, addresses=addresses)


@operation(_("Take a NIC out of the group"), needs=NETWORKS, icon="plug-off", unless=_unsupported)
def detach(job: Job, machine: Machine, *, mac: Mac, group: GroupName) -> None:
    """Take a NIC out of a group; what only this group allowed is dropped."""
    groups, prevents, addresses = _present(machine, mac)
    if group not in groups:
        raise OperationError(_("This NIC is not in the group %s.") % group, field="group")
    _assign(job, machine, mac, groups - {group}, prevents=prevents, addresses=addresses)


@operation(_("Bring security groups up to date"), needs=NETWORKS, icon="shield-check", deadline=300)
def apply(job: Job, host: Host) -> None:
    """Have the host's filters say what the groups say; running machines follow at once."""
    enforcement.bring_up_to_date(job, host)


def ask_to_apply(host: Host, user: User | None = None) -> Job | None:
    """A job that brings the host up to date; None where one waits already."""
    waiting = Job.objects.filter(kind=apply.kind, host=host, state__in=UNFINISHED)
    if waiting.exists():
        return None
    job = Job.objects.create(
        kind=apply.kind,
        user=user,
        username=user.username if user else "kvmweb",
        host=host,
        target_type="host",
        target_key=str(host.pk),
        target_name=host.name,
    )
    announce(*job.topics)
    wake_agents()
    return job


def keep(host_ids: Collection[int]) -> None:
    """Ask for ``apply`` on those of these hosts where something differs, and did not just fail."""
    hosts = Host.objects.filter(pk__in=host_ids, state=HostState.CONNECTED, has_filters=True)
    for host in hosts.only("name"):
        if enforcement.is_stale(host) and not _failed_lately(host):
            ask_to_apply(host)


def _failed_lately(host: Host) -> bool:
    since = timezone.now() - timedelta(seconds=TRY_AGAIN_AFTER)
    failed = Job.objects.filter(kind=apply.kind, host=host, ended__gt=since)
    return failed.exclude(state=JobState.DONE).exists()


def _present(machine: Machine, mac: str) -> tuple[set[str], bool, list[str]]:
    """What libvirt has of a NIC now: its groups, whether spoofing is prevented, its addresses."""
    _nic, reference = nic_filters.present(machine, mac)
    if reference is None:
        return set(), False, []
    row = NwFilter.objects.filter(host=machine.host_id, name=reference.filter).first()
    groups, prevents = security.membership(reference.filter, row.references if row else [])
    addresses = [value for name, value in reference.parameters if name == "IP"]
    return set(groups), prevents, addresses


def _assign(
    job: Job, machine: Machine, mac: str, groups: set[str], *, prevents: bool, addresses: list[str]
) -> None:
    _refuse_unknown(groups)
    nic, before = nic_filters.present(machine, mac)
    _refuse_foreign(before)
    if (groups or prevents) and (sentence := nic_filters.unfilterable(machine, nic)):
        raise OperationError(sentence, field="mac")
    if groups and (sentence := _blind(machine.host)):
        raise OperationError(sentence, field="groups")
    keep = ""
    with enforcement.guards[machine.host_id]:
        try:
            reference = enforcement.prepared(
                job, machine.host_id, groups, prevents=prevents, addresses=addresses
            )
            nic_filters.set_filter(job, machine, mac, reference)
            keep = reference.filter if reference else ""
        finally:
            enforcement.tidy(job, machine.host, keep=keep)
    job.result = {"filter": keep}
    keys = SecurityGroup.objects.filter(name__in=groups).values_list("uuid", flat=True)
    announce(*(f"security-group:{key}" for key in keys), "security-groups")
    _spread(job)


def _blind(host: Host) -> str:
    """Rules that have no effect are worse than none: look now, not at what was mirrored."""
    # Where the helper can't be asked, what was mirrored last has to do.
    with contextlib.suppress(OperationError, NetError):
        hostnet.read(host.pk, hostnet.helper(host.pk), ["bridging"])
    found = filters.blind([host])
    return found[0][1] + now(" The page Filters has a button for it.") if found else ""


def _refuse_unknown(groups: set[str]) -> None:
    known = set(SecurityGroup.objects.filter(name__in=groups).values_list("name", flat=True))
    if missing := sorted(groups - known):
        raise OperationError(_("There is no security group named %s.") % missing[0], field="groups")


def _refuse_foreign(reference: Reference | None) -> None:
    if reference and not reference.filter.startswith((security.PREFIX, security.COMBINED)):
        raise OperationError(
            _(
                "This NIC uses the filter %s. It has either a filter of its own or security "
                "groups: remove that filter from the NIC first."
            )
            % reference.filter,
            field="mac",
        )


def _save(
    job: Job,
    group: SecurityGroup,
    version: int,
    change: Callable[[list[Any]], list[Any]],
    description: str | None = None,
) -> None:
    """Refused where somebody has changed the group since ``version``."""
    rules = change(group.rules)
    if len(rules) > security.MOST_RULES:
        raise OperationError(_("A group has at most %d rules.") % security.MOST_RULES)
    rows = SecurityGroup.objects.filter(pk=group.pk, version=version or group.version)
    fields: dict[str, Any] = {"rules": rules, "version": group.version + 1}
    if description is not None:
        fields["description"] = description
    if not rows.update(**fields):
        raise OperationError(
            _("Somebody has changed this group since you looked at it. Look again, then repeat.")
        )
    job.result = {"uuid": str(group.uuid), "name": group.name, "version": group.version + 1}
    announce(group.topic, "security-groups")
    _spread(job)


def _spread(job: Job) -> None:
    """Have every connected host follow. The agent does so for those that come back later."""
    hosts = Host.objects.filter(state=HostState.CONNECTED, has_filters=True)
    for host in hosts.only("name"):
        if enforcement.is_stale(host):
            ask_to_apply(host, job.user)


def _plain(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(include=set(Rule.model_fields))


def _replaced(rules: list[Any], place: int, by: list[Any]) -> list[Any]:
    if place >= len(rules):
        raise OperationError(_("There is no such rule any more. Look again."), field="place")
    return [*rules[:place], *by, *rules[place + 1 :]]
