"""What the helper on a host says of its network -> HostNetwork, and how changes to it ended."""

import threading
import time
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from kvmweb.models import ChangeState, HostNetwork, NetworkChange
from kvmweb.models.live import announce
from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from kvmweb.virt.errors import OperationError

Json = dict[str, Any]
# What a helper calls a change that it took back.
_TAKEN_BACK = ("reverted", "undone")

_clients: dict[int, Client] = {}
_locks: dict[int, threading.RLock] = {}


def keep(host_id: int, client: Client) -> None:
    """The host's helper runs: hand it out."""
    _clients[host_id] = client


def forget(host_id: int) -> None:
    _clients.pop(host_id, None)


def helper(host_id: int) -> Client:
    """The helper on a host. Raises ``OperationError`` with the reason why there is none."""
    client = _clients.get(host_id)
    if client is not None:
        return client
    problem = HostNetwork.objects.filter(host=host_id).values_list("problem", flat=True).first()
    raise OperationError(
        problem or _("The host's network can't be reached yet. Try again in a moment.")
    )


def alone(host_id: int) -> threading.RLock:
    """Held by who changes a host's network, or decides how an earlier change of it ended."""
    return _locks.setdefault(host_id, threading.RLock())


def tell(host_id: int) -> None:
    announce(f"hostnet:{host_id}")


def read(host_id: int, client: Client, parts: list[str] | None = None) -> None:
    """Look at the host's network again, or at parts of it, and at what differs from what we want.
    Raises ``NetError``.
    """
    row, _is_new = HostNetwork.objects.get_or_create(host_id=host_id)
    found = client.call("read", parts=parts or [])
    counters = _without_counters(found)
    problems = {
        **row.actual.get("problems", {}),
        **dict.fromkeys(parts or [], ""),
        **found["problems"],
    }
    actual = {
        **(row.actual if parts else {}),
        **found,
        "problems": {part: sentence for part, sentence in problems.items() if sentence},
    }
    _write(row, actual=actual, problem="", read=timezone.now())
    if "links" in found:
        write_usage(host_id, counters, at=time.time())
    # After what was read is shown: a plan takes the host as long again.
    _write(row, drift=_drift(host_id, client))


def _write(row: HostNetwork, **fields: Any) -> None:
    changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
    if not changed:
        return
    HostNetwork.objects.filter(pk=row.pk).update(**changed)
    if changed.keys() != {"read"}:
        tell(row.host_id)


def _drift(host_id: int, client: Client) -> list[Json]:
    """The steps that would bring back what is wanted. While a change waits for confirmation, that
    is what it made. Not while one is being applied: what is wanted is in between then.
    """
    with alone(host_id):
        waiting = NetworkChange.objects.filter(host=host_id, state=ChangeState.UNCONFIRMED)
        wanted = HostNetwork.objects.values_list("desired", flat=True).get(host=host_id)
        if waiting.exists() or not any(wanted.values()):
            return []
        try:
            plan = client.call("plan", desired=wanted, owned=wanted)
        except NetError as error:
            if error.kind in ("lost", "deadline"):
                raise
            return [{"commands": [], "touches": [], "is_risky": False, "sentence": error.sentence}]
    return [brief(step) for step in plan["steps"]]


def brief(step: Json) -> Json:
    """What a person wants to know of a step."""
    return {name: step[name] for name in ("commands", "touches", "is_risky")}


def _without_counters(found: Json) -> dict[str, Json]:
    """Takes them out, and lifetimes too, for they change all the time: by link of the host."""
    counters = {}
    for link in found.get("links", []):
        taken = link.pop("counters", {})
        if not link["namespace"]:
            counters[link["name"]] = taken
    for switch in found.get("switches", []):
        for port in switch["ports"]:
            for interface in port["interfaces"]:
                interface.get("live", {}).pop("statistics", None)
            port.get("live", {}).pop("statistics", None)
    for row in [*found.get("addresses", []), *found.get("routes", [])]:
        for name in ("valid", "preferred", "expires"):
            row.pop(name, None)
    return counters


_sampled: dict[int, tuple[float, dict[str, Json]]] = {}


def sample(host_id: int, client: Client) -> None:
    """The counters alone. Raises ``NetError``."""
    write_usage(host_id, _without_counters(client.call("read", parts=["links"])), at=time.time())


def write_usage(host_id: int, counters: dict[str, Json], *, at: float) -> None:
    """Counters, read at that time (in seconds), and the rates since they were last written, in
    bit/s.
    """
    before, last = _sampled.get(host_id, (0.0, {}))
    seconds = at - before
    if before and seconds < 1:
        return
    _sampled[host_id] = (at, counters)
    usage = {
        name: {**found, **(_rates(found, last[name], seconds) if name in last else {})}
        for name, found in counters.items()
    }
    if HostNetwork.objects.filter(host=host_id).exclude(usage=usage).update(usage=usage):
        announce(f"hostnet-usage:{host_id}")


def _rates(now: Json, before: Json, seconds: float) -> Json:
    """A link that was made anew counts from nothing."""
    return {
        f"{way}_rate": max(0, round((now[f"{way}_bytes"] - before[f"{way}_bytes"]) * 8 / seconds))
        for way in ("rx", "tx")
    }


def write_problem(host_id: int, sentence: str) -> None:
    """Why the network can't be read, or "" where it can."""
    row, _is_new = HostNetwork.objects.get_or_create(host_id=host_id)
    if row.problem != sentence:
        HostNetwork.objects.filter(pk=row.pk).update(problem=sentence)
        tell(host_id)


def kept(change: NetworkChange, note: str = "") -> None:
    """The change stays: from now on it is what is wanted."""
    with transaction.atomic():
        _end(change, ChangeState.APPLIED, note)
        HostNetwork.objects.filter(host=change.host_id).update(desired=change.after)
        if change.undoes_id:
            NetworkChange.objects.filter(pk=change.undoes_id).update(state=ChangeState.UNDONE)
    tell(change.host_id)


def taken_back(change: NetworkChange, note: str) -> None:
    """The host has again what it had before the change."""
    _end(change, ChangeState.REVERTED, note)
    tell(change.host_id)


def _end(change: NetworkChange, state: ChangeState, note: str) -> None:
    change.state, change.note = state, note
    change.save(update_fields=["state", "note"])


def settle(host_id: int, client: Client) -> bool:
    """Write down how changes ended whose end we have not seen: the host reverted one by itself, or
    the site was stopped in the middle. Whether one still waits. Raises ``NetError``.
    """
    waiting = NetworkChange.objects.filter(host=host_id, state=ChangeState.UNCONFIRMED)
    if not waiting.exists():
        return False
    with alone(host_id):
        told = {one["token"]: one for one in client.call("pending")}
        for change in waiting.order_by("created"):
            _settle(change, told, client)
    return waiting.exists()


def _settle(change: NetworkChange, told: dict[str, Json], client: Client) -> None:
    found = told.get(change.token) if change.token else _newest_unknown(change, told)
    if found is None:
        _settle_by_looking(change, client)
    elif found["state"] in _TAKEN_BACK:
        taken_back(change, found["sentence"])
        client.call("forget", token=found["token"])
    elif found["state"] == "unconfirmed" and not change.token:
        deadline = timezone.now() + timedelta(seconds=found["seconds"])
        NetworkChange.objects.filter(pk=change.pk).update(token=found["token"], deadline=deadline)
        tell(change.host_id)


def _settle_by_looking(change: NetworkChange, client: Client) -> None:
    """The host keeps no note of what it has told: it may have told it to us as we were stopped."""
    try:
        plan = client.call("plan", desired=change.after, owned=change.after)
    except NetError as error:
        if error.kind in ("lost", "deadline"):
            raise
        plan = None
    if plan is not None and not plan["steps"]:
        kept(change)
    else:
        taken_back(change, _("It was not begun, or the host has rebooted since."))


def _newest_unknown(change: NetworkChange, told: dict[str, Json]) -> Json | None:
    """We died before we heard the host's name for it: it is the last one that we know nothing of,
    for a host takes one change after the other.
    """
    rows = NetworkChange.objects.filter(host=change.host_id).exclude(token="")
    known = set(rows.values_list("token", flat=True))
    unknown = [one for token, one in told.items() if token not in known]
    return max(unknown, key=lambda one: float(one["began"]), default=None)
