"""What a person types, as the document has it. All raise ``ValueError`` with a sentence."""

import ipaddress
import re
from typing import Any

from django.utils.translation import gettext as _

from kvmweb.spec.devices.interface import LIBVIRTS_TAP, OWN_ALIAS
from kvmweb.spec.hostnet import interface_name

_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_PARAMETER = re.compile(r"([A-Za-z0-9_]+) *= *([A-Za-z0-9_.:/-]+)")


def tags(value: Any) -> Any:
    """``10, 20-22`` -> [10, 20, 21, 22]; what is no text is left to pydantic."""
    if value is None:
        return []
    found: list[Any] = []
    for part in value if isinstance(value, list) else [value]:
        found += _tags(part) if isinstance(part, str) else [part]
    return sorted(set(found)) if all(type(one) is int for one in found) else found


def _tags(text: str) -> list[int]:
    words = re.sub(r"\s*-\s*", "-", text).replace(",", " ").split()
    return [tag for word in words for tag in _range(word)]


def _range(word: str) -> range:
    match = _RANGE.fullmatch(word)
    if not match:
        raise ValueError(_("“%s” is not a VLAN: enter numbers like 10, 20-22.") % word)
    found = range(int(match[1]), int(match[2] or match[1]) + 1)
    if 4095 in found:
        raise ValueError(_("VLAN 4095 is reserved: use 1 to 4094."))
    return found


def lines(value: Any) -> Any:
    """One entry per line; empty ones are none."""
    if value is None:
        return []
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        return value
    return [line.strip() for part in parts for line in part.splitlines() if line.strip()]


def parameter(text: str) -> str:
    """Of a filter, as libvirt takes it: nwfilterxml2xml's isValidVarName and isValidVarValue."""
    match = _PARAMETER.fullmatch(text)
    if not match:
        raise ValueError(_("“%s” is not a parameter, like IP=10.0.0.7.") % text)
    return f"{match[1]}={match[2]}"


def tap(text: str) -> str:
    interface_name(text)
    if LIBVIRTS_TAP.fullmatch(text):
        raise ValueError(_("Names like %s are libvirt's own. Choose another.") % text)
    return text


def alias(text: str) -> str:
    name = text.removeprefix(OWN_ALIAS)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name):
        raise ValueError(_("An alias has letters, digits, “-”, “_” and “.” only."))
    return OWN_ALIAS + name


def guest_address(text: str) -> str:
    try:
        if "/" in text:
            return str(ipaddress.IPv4Interface(text))
    except ValueError:
        pass
    raise ValueError(_("Enter an IPv4 address with its prefix, like 172.17.2.0/24."))
