"""Changes to the document of a host's network, and three versions of it brought together.

All on plain JSON, as ``HostNetwork.model_dump(mode="json")`` gives it; nothing is checked here.
"""

import copy
import hashlib
import json
from typing import Any

import yaml

Json = Any
Document = dict[str, Any]
_ABSENT = object()
# What tells one entry of a list from another; other lists are taken whole.
_KEYS: dict[str, tuple[str, ...]] = {
    "links": ("name",),
    "switches": ("name",),
    "ports": ("name",),
    "mirrors": ("name",),
    "routers": ("name",),
    "legs": ("name",),
    "routes": ("to", "metric"),
    "forwards": ("protocol", "address", "port"),
    "dhcp": ("leg",),
    "reservations": ("mac",),
}


def digest(document: Document) -> str:
    """The same for documents that say the same."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_yaml(document: Document) -> str:
    """As a person reads and writes it; empty where the document is."""
    if not any(document.values()):
        return ""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def entry(document: Document, section: str, name: str) -> Document | None:
    """The entry of this name; ``section`` is links, switches, routers or forwards."""
    return next((one for one in document.get(section, []) if one["name"] == name), None)


def put(entries: list[Document], entry: Document, *, old: Document | None = None) -> list[Document]:
    """The list with the entry in the place of ``old``, or at its end."""
    if old in entries:
        return [entry if one == old else one for one in entries]
    return [*entries, entry]


def with_link(document: Document, link: Document, *, old: str = "") -> Document:
    """With this link, in the place of the one that was named ``old``."""
    links = document.get("links", [])
    return {**document, "links": put(links, link, old=entry(document, "links", old))}


def with_members(document: Document, master: str, members: list[str]) -> Document:
    """With these links, and no others, as ports of ``master``. A link the document does not know
    comes in as one that is there already.
    """
    links = []
    for link in document.get("links", []):
        if link["name"] in members:
            links.append({**link, "master": master})
        elif link.get("master") == master:
            links.append({**link, "master": None})
        else:
            links.append(link)
    known = {link["name"] for link in links}
    new = [
        {"kind": "physical", "name": name, "master": master}
        for name in members
        if name not in known
    ]
    return {**document, "links": links + new}


def without_link(document: Document, name: str) -> Document:
    """Without the link, its other end if it is one of a pair, and what says it is its port."""
    gone = {name} | {
        link["name"]
        for link in document.get("links", [])
        if link["kind"] == "veth" and link.get("peer") == name
    }
    links = [
        {**link, "master": None} if link.get("master") in gone else link
        for link in document.get("links", [])
        if link["name"] not in gone
    ]
    return {**document, "links": links}


def rebased(base: Document, theirs: Document, mine: Document) -> tuple[Document, list[str]]:
    """What ``mine`` changed in ``base``, done to ``theirs``; and where both changed the same, in
    which case mine counts: ``links.br0.mtu``.
    """
    conflicts: list[str] = []
    merged = _merge(base, theirs, mine, "", conflicts)
    return copy.deepcopy(merged), conflicts


def _merge(base: Json, theirs: Json, mine: Json, path: str, conflicts: list[str]) -> Json:
    if mine == base or theirs == mine:
        return theirs
    if theirs == base:
        return mine
    if isinstance(theirs, dict) and isinstance(mine, dict):
        known = base if isinstance(base, dict) else {}
        return _merge_dicts(known, theirs, mine, path, conflicts)
    keys = _KEYS.get(path.rpartition(".")[2])
    if keys and isinstance(theirs, list) and isinstance(mine, list):
        some = (base if isinstance(base, list) else [], theirs, mine)
        first, second, third = (_keyed(entries, keys) for entries in some)
        if [len(first), len(second), len(third)] == [len(entries) for entries in some]:
            return list(_merge_dicts(first, second, third, path, conflicts).values())
    conflicts.append(path)
    return mine


def _merge_dicts(
    base: Document, theirs: Document, mine: Document, path: str, conflicts: list[str]
) -> Document:
    merged = {}
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        found = _merge(
            base.get(key, _ABSENT),
            theirs.get(key, _ABSENT),
            mine.get(key, _ABSENT),
            f"{path}.{key}".lstrip("."),
            conflicts,
        )
        if found is not _ABSENT:
            merged[key] = found
    return merged


def _keyed(entries: list[Document], fields: tuple[str, ...]) -> Document:
    """Each entry by what tells it from the others."""
    return {
        " ".join(str(entry[name]) for name in fields if entry.get(name) is not None): entry
        for entry in entries
    }
