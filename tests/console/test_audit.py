"""Rows of consoles whose process was killed."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from kvmweb.console import audit
from kvmweb.console.consoles import OpenConsole
from kvmweb.models import ConsoleSession, Machine, User

pytestmark = pytest.mark.django_db(transaction=True)

# Holds the lock as a process that serves consoles does, says so, and waits to be ended.
HOLDER = """
import fcntl, sys
journal = open(sys.argv[1])
fcntl.flock(journal, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def console(user: User, machine: Machine) -> OpenConsole:
    return OpenConsole(
        id=uuid.uuid4(),
        user_id=user.pk,
        username=user.username,
        password=user.password,
        session_key="s",
        token_id=None,
        host_id=machine.host_id,
        agent="",
        uri="",
        machine_uuid=machine.uuid,
        machine_name=machine.name,
        level="view",
        address="192.0.2.7",
    )


def test_a_killed_process_s_rows_are_closed_and_a_living_one_s_are_not(
    state_directory: Path, bob: User, machine: Machine
) -> None:
    first = console(bob, machine)
    audit.opened(first)
    assert audit.close_left_open() == 0  # our own are locked by ourselves
    audit._journals.clear()  # closes the file, as the end of the process does
    second = console(bob, machine)
    audit.opened(second)

    assert audit.close_left_open() == 1
    assert ConsoleSession.objects.get(pk=first.id).close_reason == "The site was stopped."
    assert ConsoleSession.objects.get(pk=second.id).closed is None
    assert len(list((state_directory / "consoles").iterdir())) == 1
    audit.forget()
    assert not list((state_directory / "consoles").iterdir())


def test_another_process_that_lives_keeps_its_rows(
    state_directory: Path, bob: User, machine: Machine
) -> None:
    opened = console(bob, machine)
    audit.opened(opened)
    audit._journals.clear()
    [journal] = (state_directory / "consoles").iterdir()
    command = [sys.executable, "-c", HOLDER, str(journal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        assert audit.close_left_open() == 0
        holder.kill()
    assert audit.close_left_open() == 1


def test_a_line_cut_off_by_the_kill_does_no_harm(state_directory: Path, db: None) -> None:
    (state_directory / "consoles").mkdir()
    (state_directory / "consoles" / "x.open").write_text(f"{uuid.uuid4()}\n1234-")
    assert audit.close_left_open() == 0
    assert not list((state_directory / "consoles").iterdir())


def test_a_row_is_closed_once(state_directory: Path, bob: User, machine: Machine) -> None:
    opened = console(bob, machine)
    audit.opened(opened)
    opened.bytes_to_browser = 5
    audit.closed(opened, "first")
    audit.closed(opened, "second")
    row = ConsoleSession.objects.get()
    assert (row.close_reason, row.bytes_to_browser, row.address) == ("first", 5, "192.0.2.7")
    audit.forget()
