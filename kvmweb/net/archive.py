"""All of the helper in one file, a zipapp, for hosts that have python3 only."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_MAIN = "import sys\nfrom kvmweb.net import helper\n\nhelper.main(sys.argv[1:])\n"
# A time of its own would make each build differ.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Archive:
    data: bytes
    digest: str  # SHA-256, by which hosts keep it


@functools.cache
def build() -> Archive:
    files = {"__main__.py": _MAIN, "kvmweb/__init__.py": ""}
    for file in sorted(_PACKAGE.rglob("*.py")):
        files[f"kvmweb/net/{file.relative_to(_PACKAGE)}"] = file.read_text()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), text, zipfile.ZIP_DEFLATED)
    data = packed.getvalue()
    return Archive(data, hashlib.sha256(data).hexdigest())
