"""``manage.py apply`` and ``export_network``, with the agent in between."""

import io
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from kvmweb.models import Host, Job, NetworkChange
from tests.hostnet import BRIDGE, NOWHERE, Followed

LAB = yaml.safe_dump({"links": [BRIDGE]})
UPLINK = yaml.safe_dump({"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]})


def _run(*arguments: str) -> str:
    output = io.StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(LAB)
    return path


def test_a_plan_changes_nothing(followed: Followed, file: Path) -> None:
    text = _run("apply", str(file), "--host", "lab", "--plan")
    assert "ip link add name br-lab type bridge" in text
    assert "br-lab" not in followed.own.execute("ip", "link")
    assert not NetworkChange.objects.exists()


def test_it_is_applied_exported_and_then_there_is_nothing_to_do(
    followed: Followed, file: Path
) -> None:
    assert "lab: applied" in _run("apply", str(file), "--host", "lab", "--yes")
    assert "10.5.5.1/24" in followed.own.execute("ip", "address", "show", "br-lab")
    text = _run("export_network", "lab")
    assert yaml.safe_load(text) == yaml.safe_load(LAB)
    file.write_text(text)
    assert "nothing to do" in _run("apply", str(file), "--host", "lab", "--yes")
    assert NetworkChange.objects.count() == 1


def test_a_risky_one_is_kept_with_yes(followed: Followed, file: Path) -> None:
    file.write_text(UPLINK)
    text = _run("apply", str(file), "--host", "lab", "--yes")
    assert "This could cut you off: eth0 carries the default route." in text
    assert "lab: applied" in text
    assert followed.own.is_reachable()


def test_nobody_is_asked_where_nobody_is(
    followed: Followed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(LAB))
    with pytest.raises(CommandError, match="add --yes"):
        _run("apply", "-", "--host", "lab")
    assert "br-lab" not in followed.own.execute("ip", "link")


def test_what_the_host_finds_wrong_ends_it(followed: Followed, file: Path) -> None:
    file.write_text("links: [{kind: bridge, name: eth0}]")
    with pytest.raises(CommandError, match=r"links\.0\.name: “eth0” is there already"):
        _run("apply", str(file), "--host", "lab", "--yes")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("links: [", "is not YAML"),
        ("- a", "has no fields"),
        ("a: !!python/object/apply:os.system ['id']", "is not YAML"),
        ("links: [{kind: bridge, name: a/b}]", r"links\.0\.bridge\.name: Use 1 to 15"),
        ("surprise: 1", "surprise: There is no such field"),
    ],
)
def test_a_file_that_says_nonsense(file: Path, alice: object, text: str, sentence: str) -> None:
    Host.objects.create(name="lab", uri=NOWHERE)
    file.write_text(text)
    with pytest.raises(CommandError, match=sentence):
        _run("apply", str(file))
    assert not Job.objects.exists()


def test_who_and_what_must_be_there(db: None, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmweb.management.commands.apply.BEGINS_WITHIN", 0.1)
    with pytest.raises(CommandError, match="Say which host"):
        _run("apply", str(file))
    with pytest.raises(CommandError, match="no host named x"):
        _run("apply", str(file), "--host", "x")
    with pytest.raises(CommandError, match="no host named x"):
        _run("export_network", "x")
    with pytest.raises(CommandError, match="can't be read"):
        _run("apply", "/nowhere.yaml")
    Host.objects.create(name="lab", uri=NOWHERE)
    with pytest.raises(CommandError, match="No administrator"):
        _run("apply", str(file))
    with pytest.raises(CommandError, match="no user named eve"):
        _run("apply", str(file), "--user", "eve")


def test_without_an_agent_it_says_so_and_leaves_no_job_behind(
    alice: object, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmweb.management.commands.apply.BEGINS_WITHIN", 0.1)
    Host.objects.create(name="lab", uri=NOWHERE)
    with pytest.raises(CommandError, match="No agent took the job"):
        _run("apply", str(file))
    assert Job.objects.get().state == "cancelled"
    assert _run("export_network", "lab") == ""


def test_an_operator_may_not(bob: object, file: Path) -> None:
    Host.objects.create(name="lab", uri=NOWHERE)
    with pytest.raises(CommandError, match="not allowed to change networks"):
        _run("apply", str(file), "--user", "bob")
