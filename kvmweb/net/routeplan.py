"""Steps for the host's own static routes; they bear our mark as their protocol."""

from __future__ import annotations

from kvmweb.net import addresses
from kvmweb.net.ground import Ground, Row
from kvmweb.net.kernel import PASSING
from kvmweb.net.step import Step


def dropped(ground: Ground) -> list[Step]:
    wanted = [_route_key(addresses.plain_route(one)) for one in ground.desired.get("routes", [])]
    return [
        addresses.remove_route(lasting(row))
        for row in ground.actual["routes"]
        if not row["namespace"] and row["protocol"] == "kvmweb" and _route_key(row) not in wanted
        and not any(_is_same_route(row, key) for key in wanted)
    ]  # fmt: skip


def added(ground: Ground) -> list[Step]:
    rows = [row for row in ground.actual["routes"] if not row["namespace"]]
    default = [row["name"] for row in ground.there.values() if row["is_default"]]
    steps = []
    for one in ground.desired.get("routes", []):
        row = addresses.plain_route(one)
        if not any(_is_same_route(there, _route_key(row)) for there in rows):
            touches = default if row["to"] == "default" else []
            touches = [*touches, *([row["dev"]] if row["dev"] else [])]
            steps.append(addresses.add_route(row, touches=touches))
    return steps


_Key = tuple[int, str, str | None, str | None, int]


def _route_key(row: Row) -> _Key:
    usual = 1024 if row["family"] == 6 else 0
    return row["family"], row["to"], row["via"], row["dev"], row["metric"] or usual


def _is_same_route(row: Row, key: _Key) -> bool:
    """A route of the document need not name its interface."""
    mine = _route_key(row)
    return mine == key or (key[3] is None and mine == (*key[:3], row["dev"], key[4]))


def lasting(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in PASSING}
