"""Every kind of device is shown; what that looks like is in ``golden/<kind>.json``.

``KVMWEB_GOLDEN=write pytest tests/spec`` writes those files anew; read the difference before you
commit it.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from kvmweb.spec.hardware import KINDS, hardware

GOLDEN = Path(__file__).with_name("golden")
ICONS = Path(__file__).resolve().parents[2] / "node_modules/@tabler/icons/icons/outline"
DOCUMENTS = sorted(path.stem for path in GOLDEN.glob("*.xml"))
SECTIONS = 5


def _shown(name: str) -> list[dict[str, Any]]:
    parts = hardware((GOLDEN / f"{name}.xml").read_text())
    wanted = parts if name == "whole" else parts[SECTIONS:]
    return [
        {"label": part.label, "icon": part.icon, "facts": [list(fact) for fact in part.facts]}
        for part in wanted
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_shown_like_that(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("KVMWEB_GOLDEN") == "write":
        golden.write_text(json.dumps(_shown(name), indent=1, ensure_ascii=False) + "\n")
    assert _shown(name) == json.loads(golden.read_text())


def test_every_kind_has_a_golden_file() -> None:
    assert {kind.tag for kind in KINDS} <= set(DOCUMENTS)
    files = {path.stem for path in Path("kvmweb/spec/devices").resolve().glob("*.py")}
    assert {kind.__module__.rpartition(".")[2] for kind in KINDS} == files - {
        "__init__", "device", "character",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - {"unknown", "crypto", "pstore"}))
def test_the_golden_documents_are_libvirts(name: str, domain_schema: etree.RelaxNG) -> None:
    """Without ``crypto`` and ``pstore``, which older libvirts do not know."""
    domain_schema.assertValid(etree.parse(GOLDEN / f"{name}.xml"))


def test_nothing_of_a_device_is_lost() -> None:
    unknown = hardware((GOLDEN / "unknown.xml").read_text())[-1]
    assert unknown.label == "teleporter"
    assert "<target>there</target>" in unknown.xml
    assert "ua-beam" in unknown.xml


def test_a_password_is_never_among_the_facts() -> None:
    display = hardware((GOLDEN / "graphics.xml").read_text())[SECTIONS]
    assert ("Password", "set") in display.facts
    assert "secret" not in str(display.facts)


def test_every_icon_exists() -> None:
    if not ICONS.is_dir():
        pytest.skip("node_modules is not installed: npm ci")
    icons = {part.icon for name in DOCUMENTS for part in hardware(_text(name))}
    assert {icon for icon in icons if not (ICONS / f"{icon}.svg").exists()} == set()


def _text(name: str) -> str:
    return (GOLDEN / f"{name}.xml").read_text()
