"""What links lose by the way is put back: the kernel drops addresses and routes by itself as links
go down, leave or become ports.
"""

from __future__ import annotations

import time

from kvmweb.net import kernel
from kvmweb.net.addresses import address_body, devices, route_body
from kvmweb.net.changes import Values
from kvmweb.net.context import Context
from kvmweb.net.kernel import Row
from kvmweb.net.rtnetlink import CREATE, EXCL, NEWADDR, NEWROUTE, Message, Rtnetlink


def snapshot(actual: Values, names: set[str]) -> Values:
    """Addresses and routes of these links of the host, for ``put_back``."""
    return {
        "at": time.monotonic(),
        "addresses": [
            row for row in actual["addresses"] if not row["namespace"] and row["dev"] in names
        ],
        "routes": [
            row for row in actual["routes"] if not row["namespace"] and names & {*devices(row)}
        ],
    }


def put_back(context: Context, before: Values) -> list[str]:
    """Whatever of a snapshot is missing now is added again; sentences about what can't be.

    The kernel drops addresses and routes by itself as links go down, leave or become ports.
    """
    socket_ = context.rtnetlink()
    age = int(time.monotonic() - before["at"])
    names = kernel.names(socket_)
    index = {name: number for number, name in names.items()}
    problems = []
    there = {(row["dev"], row["address"]) for row in kernel.addresses(socket_, names)}
    for row in before["addresses"]:
        if (row["dev"], row["address"]) not in there and row["scope"] != "link":
            problems += _again(socket_, _address_again(row, index, age), row["address"], row["dev"])
    known = [_comparable(row) for row in kernel.routes(socket_, names)]
    # Those on the link itself first: gateways are reached by them.
    for row in sorted(before["routes"], key=lambda row: bool(row["via"] or row["nexthops"])):
        if _comparable(row) not in known and row["protocol"] != "kernel":
            problems += _again(socket_, _route_again(row, index), row["to"], row["dev"] or "")
    return problems


def _comparable(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("expires", "namespace")}


def _again(socket_: Rtnetlink, message: Message | None, what: str, dev: str) -> list[str]:
    if message is None:
        return [f"{dev} is not there any more, so {what} could not be put back."]
    failures = socket_.change([message])
    return [f"{what} on {dev} could not be put back: {one.sentence}." for one in failures]


def _address_again(row: Row, index: dict[str, int], age: int) -> Message | None:
    if row["dev"] not in index:
        return None
    left = {
        key: None if row[key] is None else max(1, row[key] - age) for key in ("valid", "preferred")
    }
    body = address_body({**row, **left}, index[row["dev"]])
    return Message(NEWADDR, CREATE | EXCL, body, may_exist=True)


def _route_again(row: Row, index: dict[str, int]) -> Message | None:
    if not all(dev in index for dev in devices(row)):
        return None
    return Message(NEWROUTE, CREATE | EXCL, route_body(row, index), may_exist=True)
