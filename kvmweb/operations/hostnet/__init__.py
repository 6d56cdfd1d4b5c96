"""A host's own network: planned, applied, confirmed, undone; drift taken over or put back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import Field

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import ChangeState, Host, HostNetwork, Job, NetworkChange
from kvmweb.models.access import NETWORKS
from kvmweb.net.errors import NetError
from kvmweb.operations.hostnet.proposal import Application, Proposal
from kvmweb.operations.hostnet.takeover import taken_over
from kvmweb.operations.hostnet.touched import machines
from kvmweb.operations.hostnet.ways import addresses_of_site
from kvmweb.operations.operation import operation
from kvmweb.spec.hostnet import HostNetwork as Document
from kvmweb.spec.hostnet_edits import digest, rebased
from kvmweb.virt.errors import OperationError

Json = dict[str, Any]

CONFIRM_SECONDS = 30
_MOST_ROWS = 1000
# What a helper says of a change that it does not hold any more.
_TOO_LATE = ("late", "missing")
_MOVED = gettext_lazy(
    "The ground has moved: the host's network was changed since this plan was made. Look at the "
    "new plan."
)


def wanted_of(host: Host) -> Json:
    """The document as it is now, with every field, so that two can be compared."""
    return Document.model_validate(HostNetwork.of(host).desired).model_dump(mode="json")


def pending(host_id: int) -> NetworkChange | None:
    """The change that waits for somebody to confirm it."""
    rows = NetworkChange.objects.filter(host=host_id, state=ChangeState.UNCONFIRMED)
    return rows.order_by("-created").first()


def last_applied(host_id: int) -> NetworkChange | None:
    """The change that undo would take back."""
    rows = NetworkChange.objects.filter(host=host_id, state=ChangeState.APPLIED)
    return rows.order_by("-created").first()


def _is_waiting(host: Host) -> str:
    if pending(host.pk):
        return _("The last change still waits: keep it or put back what was before, first.")
    return ""


def _is_not_waiting(host: Host) -> str:
    return "" if pending(host.pk) else _("No change waits for confirmation.")


def _has_nothing_to_undo(host: Host) -> str:
    return _is_waiting(host) or ("" if last_applied(host.pk) else _("Nothing was applied yet."))


def _has_no_drift(host: Host) -> str:
    has_drift = HostNetwork.objects.filter(host=host).exclude(drift=[]).exists()
    return _is_waiting(host) or ("" if has_drift else _("Nothing differs from what is wanted."))


@operation(gettext_lazy("Plan"), needs=NETWORKS, icon="list-check")
def preview(job: Job, host: Host, *, proposal: Proposal) -> None:
    """What would be done to the host so that it has this network. Nothing is changed."""
    before = wanted_of(host)
    # First, so that a plan that fails can be mended where it was begun.
    job.result = {"before": before}
    wanted = proposal.document.model_dump(mode="json")
    with _explained():
        found = _plan(host, wanted, before)
    touched = {name for step in found["steps"] for name in step["touches"]}
    job.result = {
        "before": before,
        "steps": [mirror.brief(step) for step in found["steps"]],
        "digest": f"{found['digest']}-{digest(before)}",
        "is_risky": found["is_risky"],
        "reasons": found["reasons"],
        "touches": sorted(touched),
        "machines": machines(host, HostNetwork.of(host).actual, touched),
    }


@operation(gettext_lazy("Apply"), needs=NETWORKS, icon="check", unless=_is_waiting)
def apply(job: Job, host: Host, *, application: Application) -> None:
    """Do what the plan with this digest says: all of it, or nothing."""
    plan, _dash, base = application.digest.rpartition("-")
    with mirror.alone(host.pk), _explained():
        before = wanted_of(host)
        if base != digest(before):
            raise OperationError(_MOVED, field="digest")
        wanted = application.document.model_dump(mode="json")
        _carry_out(job, host, before, wanted, digest=plan)


def change_document(job: Job, host: Host, edit: Callable[[Document], Document]) -> None:
    """For operations of other nouns that are kept in the host's document, such as port forwards:
    what ``edit`` makes of the document is applied at once.
    """
    with mirror.alone(host.pk), _explained(prefix=""):
        if waiting := _is_waiting(host):
            raise OperationError(waiting)
        before = wanted_of(host)
        after = edit(Document.model_validate(before)).model_dump(mode="json")
        _carry_out(job, host, before, after)


@operation(gettext_lazy("Keep this change"), needs=NETWORKS, icon="check", unless=_is_not_waiting)
def confirm(job: Job, host: Host) -> None:
    """The change that waits stays; the host does not revert it any more."""
    with mirror.alone(host.pk):
        change = _waiting(host)
        try:
            mirror.helper(host.pk).call("confirm", token=change.token)
        except NetError as error:
            if error.kind not in _TOO_LATE:
                raise OperationError(error.sentence) from error
            mirror.taken_back(change, error.sentence)
            raise OperationError(
                _("Too late: the host has put back what was before. Plan the change again.")
            ) from error
        mirror.kept(change)


@operation(
    gettext_lazy("Put back now"), needs=NETWORKS, icon="arrow-back-up", unless=_is_not_waiting
)
def revert(job: Job, host: Host) -> None:
    """What was before the change that waits, without waiting for the end of its time."""
    with mirror.alone(host.pk), _explained():
        change = _waiting(host)
        mirror.helper(host.pk).call("revert", token=change.token)
        mirror.taken_back(change, _("%s put it back.") % job.username)


@operation(
    gettext_lazy("Undo"),
    needs=NETWORKS,
    icon="arrow-back-up",
    confirm=gettext_lazy(
        "The last applied change is taken back: the host gets what it had before."
    ),
    unless=_has_nothing_to_undo,
)
def undo(job: Job, host: Host) -> None:
    """Take back the last applied change."""
    with mirror.alone(host.pk), _explained():
        last = last_applied(host.pk)
        if last is None:
            raise OperationError(_has_nothing_to_undo(host))
        now = wanted_of(host)
        wanted, _conflicts = rebased(last.after, now, last.before)
        _carry_out(job, host, now, wanted, undoes=last)


@operation(
    gettext_lazy("Put back"),
    needs=NETWORKS,
    icon="arrow-back-up",
    confirm=gettext_lazy("The host gets again what was applied here."),
    unless=_has_no_drift,
)
def put_back(job: Job, host: Host) -> None:
    """Do away with drift: the host gets what is wanted of it."""
    with mirror.alone(host.pk), _explained():
        now = wanted_of(host)
        change = _carry_out(job, host, now, now)
        if change.is_unconfirmed and job.user_id is None:
            # The site's own, after a reboot: that the helper still answers shows that the path to
            # the host works.
            mirror.helper(host.pk).call("confirm", token=change.token)
            mirror.kept(change)


@operation(
    gettext_lazy("Take over"),
    needs=NETWORKS,
    icon="file-import",
    confirm=gettext_lazy(
        "What somebody changed on the host becomes what is wanted. Nothing on the host is changed."
    ),
    unless=_has_no_drift,
)
def take_over(job: Job, host: Host) -> None:
    """Accept drift: what is on the host becomes what is wanted of it."""
    with mirror.alone(host.pk), _explained():
        actual = mirror.helper(host.pk).call("read")
        before = wanted_of(host)
        try:
            found = Document.model_validate(taken_over(before, actual))
        except ValueError as error:
            raise OperationError(
                _("What is on the host can't be written down here: %s. Put it back instead.")
                % error
            ) from error
        after = found.model_dump(mode="json")
        change = _change(job, host, before, after, steps=[])
        mirror.kept(change, _("Taken over from the host."))
        mirror.read(host.pk, mirror.helper(host.pk))
        job.result = {"change": str(change.pk)}


@operation(gettext_lazy("Run a command"), needs=NETWORKS, icon="terminal-2")
def run_command(
    job: Job,
    host: Host,
    *,
    command: Annotated[
        list[str],
        Field(
            title="Command",
            description="Word by word: ip a, ping -c 3 10.0.0.1, traceroute 10.0.0.1, ...",
            min_length=1,
            max_length=30,
        ),
    ],
    router: Annotated[
        str,
        Field(title="Router", description="In which; empty: on the host itself.", max_length=64),
    ] = "",
) -> None:
    """Look around on the host, or in one of its routers. Nothing can be changed by it."""
    where = ["ip", "netns", "exec", router] if router else []
    job.ran(*where, *command)
    with _explained(prefix=""):
        job.result = mirror.helper(host.pk).call("run", command=command, namespace=router)


@dataclass(frozen=True)
class _Look:
    """A question to the helper. ``argument``: what the name is to it. ``words``: what a person
    would type.
    """

    call: str
    argument: str
    words: tuple[str, ...]


_LOOKS = {
    "flows": _Look("ovs.flows", "bridge", ("ovs-ofctl", "dump-flows")),
    "macs": _Look("ovs.fdb", "bridge", ("ovs-appctl", "fdb/show")),
    "bond": _Look("ovs.bond", "port", ("ovs-appctl", "bond/show")),
    "table": _Look("ovs.table", "table", ("ovsdb-client", "dump", "Open_vSwitch")),
    "tunnels": _Look("ovs.tunnels", "", ("ovs-appctl", "ofproto/list-tunnels")),
    "leases": _Look("router.leases", "router", ()),
}


@operation(gettext_lazy("Look at it"), needs=NETWORKS, icon="eye")
def look(
    job: Job,
    host: Host,
    *,
    what: Annotated[
        Literal["flows", "macs", "bond", "table", "tunnels", "leases"],
        Field(
            title="What",
            description="A bridge's flows or MAC addresses, a bond, a table of OVSDB, the tunnels "
            "of Open vSwitch, a router's DHCP leases.",
        ),
    ],
    name: Annotated[
        str, Field(title="Name", description="Of the bridge, port, table or router.", max_length=64)
    ] = "",
) -> None:
    """What changes too often to be mirrored, as it is now."""
    asked = _LOOKS[what]
    if asked.argument and not name:
        raise OperationError(_("This is needed."), field="name")
    arguments: Json = {asked.argument: name} if asked.argument else {}
    if what == "table":
        arguments["limit"] = _MOST_ROWS
    if asked.words:
        job.ran(*asked.words, *([name] if name else []))
    with _explained(prefix=""):
        found = mirror.helper(host.pk).call(asked.call, **arguments)
    job.result = found if isinstance(found, dict) else {"rows": found}


def _waiting(host: Host) -> NetworkChange:
    change = pending(host.pk)
    if change is None:
        raise OperationError(_is_not_waiting(host))
    return change


def _change(
    job: Job,
    host: Host,
    before: Json,
    after: Json,
    *,
    steps: list[Json],
    undoes: NetworkChange | None = None,
) -> NetworkChange:
    """Written before anything is done: should we die meanwhile, the host is asked how it went."""
    return NetworkChange.objects.create(
        host=host,
        user=job.user,
        job=job,
        before=before,
        after=after,
        steps=[mirror.brief(step) for step in steps],
        state=ChangeState.UNCONFIRMED,
        undoes=undoes,
    )


def _plan(host: Host, wanted: Json, owned: Json) -> Json:
    found: Json = mirror.helper(host.pk).call(
        "plan", desired=wanted, owned=owned, keep=addresses_of_site(host)
    )
    return found


def _carry_out(
    job: Job,
    host: Host,
    before: Json,
    after: Json,
    *,
    digest: str = "",
    undoes: NetworkChange | None = None,
) -> NetworkChange:
    """``digest``: of the plan that was looked at; without it, whatever has to be done."""
    plan = _plan(host, after, before)
    change = _change(job, host, before, after, steps=plan["steps"], undoes=undoes)
    job.commands += [command for step in plan["steps"] for command in step["commands"]]
    try:
        done = mirror.helper(host.pk).call(
            "apply",
            desired=after,
            owned=before,
            digest=digest or plan["digest"],
            keep=addresses_of_site(host),
            seconds=CONFIRM_SECONDS,
        )
    except NetError as error:
        if error.kind not in ("lost", "deadline"):
            change.delete()
        raise
    job.result = {"change": str(change.pk), "is_risky": plan["is_risky"]}
    if done["state"] == "unconfirmed":
        change.token = done["token"]
        change.deadline = timezone.now() + timedelta(seconds=done["seconds"])
        change.save(update_fields=["token", "deadline"])
        mirror.tell(host.pk)
    else:
        NetworkChange.objects.filter(pk=change.pk).update(token=done["token"] or "")
        mirror.kept(change)
    return change


@contextmanager
def _explained(prefix: str = "document.") -> Iterator[None]:
    """Errors of the helper as ours, the field as the arguments have it."""
    try:
        yield
    except NetError as error:
        if error.kind == "ground-moved":
            raise OperationError(_MOVED, field="digest") from error
        field = f"{prefix}{error.field}" if error.field else ""
        raise OperationError(error.sentence, field=field) from error


ALL = (preview, apply, confirm, revert, undo, put_back, take_over, run_command, look)
