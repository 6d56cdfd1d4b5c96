"""Hears of changes to Open vSwitch: in its database, and of its daemons ending and coming back."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

from kvmweb.net.calls import watcher
from kvmweb.net.errors import NetError
from kvmweb.net.ovs.database import NAME, Database

Changed = Callable[[str], None]

# Seconds between looks for a daemon that is not there.
_PAUSE = 0.5
# Of what ovs-vswitchd tells, what is news; counters are not.
_NEWS = {
    "admin_state", "link_state", "mac_in_use", "mtu", "datapath_id", "is_connected", "role",
    "lacp_current",
}  # fmt: skip
# Counted up by every ovs-vsctl, beside what it is about.
_NO_NEWS = {"next_cfg", "cur_cfg", "link_resets", "cfm_flap_count"}


@watcher
def watch(changed: Changed) -> None:
    follow(changed)


def follow(changed: Changed, directory: Path | None = None) -> None:
    """For ever."""
    while True:
        with contextlib.suppress(NetError):
            _follow(Database(directory), changed)
            changed("ovs")  # ovsdb-server ended
        time.sleep(_PAUSE)


def _follow(database: Database, changed: Changed) -> None:
    """Until ovsdb-server ends."""
    tables = {table: [{"columns": _columns(database, table)}] for table in database.schema}
    with database.connect() as connection:
        connection.call("monitor", [NAME, "kvmweb", tables])
        changed("ovs")
        connection.allow(float("inf"))
        for message in connection.messages():
            if message.get("method") == "update":
                changed("ovs")


def _columns(database: Database, table: str) -> list[str]:
    columns = database.schema[table]["columns"]
    return [
        name
        for name, column in columns.items()
        if name not in _NO_NEWS and (name in _NEWS or not column.get("ephemeral"))
    ]


@watcher
def watch_vswitchd(changed: Changed) -> None:
    follow_vswitchd(changed)


def follow_vswitchd(changed: Changed, directory: Path | None = None) -> None:
    """For ever. Its control socket says nothing by itself, but that the other end is gone."""
    while True:
        with contextlib.suppress(NetError, OSError):
            path = Database(directory).control_socket()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.connect(str(path))
                changed("ovs")
                control.recv(1)
            changed("ovs")
        time.sleep(_PAUSE)
