"""How physical links were before we changed them, kept on the host until they are put back.

After a reboot the links are as the system makes them again, and are remembered anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Originals = dict[str, dict[str, Any]]


def directory() -> Path:
    """Where the host keeps what must outlive a helper; root's only."""
    return Path(os.environ.get("KVMWEB_NET_STATE", "/var/lib/kvmweb/net"))


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read() -> Originals:
    """By name of the link."""
    try:
        kept = json.loads((directory() / "originals.json").read_text())
    except (OSError, ValueError):
        return {}
    return dict(kept["links"]) if kept.get("boot") == boot() else {}


def write(links: Originals) -> None:
    file = directory() / "originals.json"
    if not links:
        file.unlink(missing_ok=True)
        return
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"boot": boot(), "links": links}))
    new.replace(file)
