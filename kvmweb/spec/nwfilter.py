"""The document of a network filter: https://libvirt.org/formatnwfilter.html.

Libvirt keeps nothing that it does not know, so what we do not model comes from a libvirt newer than
us; it survives our edits like everywhere else.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from lxml import etree
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic import Field as Argument

from kvmweb.spec.nwprotocols import PROTOCOLS, VARIABLE, flaw, flaws, joined, label
from kvmweb.spec.xml import Element, Field, Tree, XmlError, parse, text_of

ACTIONS = ("accept", "drop", "reject", "continue", "return")
DIRECTIONS = ("in", "out", "inout")
# Libvirt finds these by itself where nobody gives them.
AUTOMATIC = frozenset({"MAC", "IP"})
# Not named in any rule: they steer how libvirt finds IP (usage-of-variables-in-filters).
CONTROLS = ("CTRL_IP_LEARNING", "DHCPSERVER")

# What the page's table has columns for.
_IN_COLUMNS = frozenset(
    f"{side}{name}"
    for side in ("src", "dst")
    for name in ("ipaddr", "ipfrom", "portstart", "macaddr")
)
_NAME = re.compile(r"[^\W\d][\w.-]*")
_CHAIN = re.compile(
    r"root|(mac|stp|arp)[a-zA-Z0-9_.:-]{0,9}|(vlan|rarp|ipv4|ipv6)[a-zA-Z0-9_.:-]{0,8}"
)


def name_flaw(name: str) -> str:
    """Why libvirt takes no filter of this name; "" where it does."""
    if not name:
        return "A filter needs a name."
    if len(name.encode()) > 200:
        return "Use at most 200 bytes."  # it becomes a file's name
    if not _NAME.fullmatch(name):
        return "Begin with a letter; then letters, digits, “.”, “-” and “_” only."
    return ""


def chain_flaw(chain: str) -> str:
    if not chain or _CHAIN.fullmatch(chain):
        return ""
    return (
        f"“{chain}” is not a chain: use root, or a name that begins with mac, vlan, stp, arp, "
        "rarp, ipv4 or ipv6 and has at most 12 characters."
    )


class Rule(BaseModel):
    """``conditions``: attributes of the protocol's element by libvirt's names. ``protocol`` "":
    every packet. ``is_negated``: what the conditions do *not* fit.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    action: Literal["accept", "drop", "reject", "continue", "return"] = "accept"
    direction: Literal["in", "out", "inout"] = "in"
    priority: Annotated[int, Argument(ge=-1000, le=1000)] = 500
    protocol: str = ""
    conditions: dict[str, str] = {}
    comment: Annotated[str, Argument(max_length=250)] = ""
    is_stateful: bool = True
    is_negated: bool = False

    @field_validator("protocol")
    @classmethod
    def _is_known(cls, protocol: str) -> str:
        if protocol and protocol not in PROTOCOLS:
            raise ValueError(f"Choose one of {', '.join(PROTOCOLS)}.")
        return protocol

    @field_validator("conditions")
    @classmethod
    def _fit(cls, conditions: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        found = flaws(info.data.get("protocol", ""), conditions)
        if found:
            raise ValueError(" ".join(f"{name}: {sentence}" for name, sentence in found.items()))
        return conditions

    @classmethod
    def of(cls, tree: Tree) -> "Rule":
        """Of a <rule>; what of it is not ours to know is not in it."""
        protocol = protocol_of(tree)
        attributes = dict(protocol.attrib) if protocol is not None else {}
        known = PROTOCOLS[str(protocol.tag)] if protocol is not None else ()
        values: dict[str, Any] = {
            "action": tree.get("action", ""),
            "direction": tree.get("direction", ""),
            "priority": _number(tree.get("priority", ""), 500),
            "protocol": str(protocol.tag) if protocol is not None else "",
            "conditions": {name: str(attributes[name]) for name in known if name in attributes},
            "comment": str(attributes.get("comment", "")),
            "is_stateful": tree.get("statematch", "").lower() not in ("false", "0"),
            "is_negated": attributes.get("match") == "no",
        }
        return cls.model_construct(**values)

    def write(self, tree: Tree) -> None:
        """Into a <rule>: what we know of it is replaced, the rest stays."""
        tree.set("action", self.action)
        tree.set("direction", self.direction)
        tree.set("priority", str(self.priority))
        _set(tree, "statematch", "" if self.is_stateful else "false")
        protocol = protocol_of(tree)
        if protocol is not None and protocol.tag != self.protocol:
            tree.remove(protocol)
            protocol = None
        if not self.protocol:
            return
        if protocol is None:
            protocol = etree.SubElement(tree, self.protocol)
        for name in PROTOCOLS[self.protocol]:
            _set(protocol, name, self.conditions.get(name, ""))
        _set(protocol, "match", "no" if self.is_negated else "")
        _set(protocol, "comment", self.comment)

    @property
    def source(self) -> str:
        return self._side("src")

    @property
    def destination(self) -> str:
        return self._side("dst")

    @property
    def source_ports(self) -> str:
        return joined(self.protocol, self.conditions).get("srcportstart", "")

    @property
    def destination_ports(self) -> str:
        return joined(self.protocol, self.conditions).get("dstportstart", "")

    @property
    def others(self) -> list[tuple[str, str]]:
        """What the conditions say beside source, destination and ports: label and value."""
        typed = joined(self.protocol, self.conditions)
        return [(label(name), text) for name, text in typed.items() if name not in _IN_COLUMNS]

    def _side(self, side: str) -> str:
        typed = joined(self.protocol, self.conditions)
        names = (f"{side}ipaddr", f"{side}ipfrom", f"{side}macaddr")
        return ", ".join(typed[name] for name in names if name in typed)


@dataclass(frozen=True)
class Reference:
    """Another filter whose rules belong to this one, with fixed values for its variables."""

    filter: str
    parameters: tuple[tuple[str, str], ...] = ()


class Filter(Element):
    name = Field("@name")
    chain = Field("@chain")
    priority = Field("@priority")
    uuid = Field("uuid")

    @property
    def entries(self) -> list[tuple[int, Rule | Reference]]:
        """Rules and references in the document's order, each with its place in it.

        Libvirt goes by priority first; the order counts among those of equal priority.
        """
        found: list[tuple[int, Rule | Reference]] = []
        for place, tree in enumerate(_entries(self.tree)):
            found.append((place, Rule.of(tree) if tree.tag == "rule" else reference_of(tree)))
        return found

    @property
    def rules(self) -> list[Rule]:
        return [entry for _place, entry in self.entries if isinstance(entry, Rule)]

    @property
    def references(self) -> list[Reference]:
        return [entry for _place, entry in self.entries if isinstance(entry, Reference)]

    @property
    def variables(self) -> set[str]:
        """Those that its own rules name, without ``$``."""
        found: set[str] = set()
        for rule in self.rules:
            for text in rule.conditions.values():
                found.update(match[1] for match in VARIABLE.finditer(text))
        return found

    def add(self, entry: Rule | Reference) -> None:
        """Behind the others."""
        tag = "rule" if isinstance(entry, Rule) else "filterref"
        tree = etree.SubElement(self.tree, tag)
        if isinstance(entry, Rule):
            entry.write(tree)
            return
        _write_reference(tree, entry)

    def replace(self, place: int, rule: Rule) -> None:
        """Raises ``IndexError`` where there is no rule."""
        tree = self._at(place)
        if tree.tag != "rule":
            raise IndexError(place)
        rule.write(tree)

    def remove(self, place: int) -> None:
        self.tree.remove(self._at(place))

    def move(self, place: int, to: int) -> None:
        """So that it is the entry ``to``, counted without it."""
        tree = self._at(place)
        self.tree.remove(tree)
        others = _entries(self.tree)
        if to >= len(others):
            self.tree.append(tree)
        else:
            others[max(to, 0)].addprevious(tree)

    def copy(self, name: str) -> "Filter":
        """The same under another name, for libvirt to give it an identity of its own."""
        made = Filter(deepcopy(self.tree))
        made.name = name
        del made.uuid
        return made

    @property
    def xml(self) -> str:
        return text_of(self.tree)

    def _at(self, place: int) -> Tree:
        if place < 0:
            raise IndexError(place)
        return _entries(self.tree)[place]


def checked(text: str) -> Filter:
    """The document, with all that can be told before libvirt sees it. Raises ``XmlError``."""
    tree = parse(text)
    line = tree.sourceline or 0
    if tree.tag != "filter":
        raise XmlError(f"The document is a <{tree.tag!s}>, not a <filter>.", line=line)
    for sentence in (name_flaw(tree.get("name", "")), chain_flaw(tree.get("chain", ""))):
        if sentence:
            raise XmlError(sentence, line=line)
    _check_priority(tree)
    for entry in _entries(tree):
        if entry.tag == "rule":
            _check_rule(entry)
        elif name_flaw(entry.get("filter", "")):
            raise XmlError(
                "A <filterref> needs the name of a filter: filter='clean-traffic'.",
                line=entry.sourceline or 0,
            )
    return Filter(tree)


def needed(name: str, documents: Mapping[str, str]) -> list[str]:
    """The variables that whoever uses the filter ``name`` may give, sorted: those of its rules and
    of all it refers to, less those given on the way. ``documents``: every filter of the host.
    """
    return sorted(_needed(name, documents, frozenset()))


def _needed(name: str, documents: Mapping[str, str], above: frozenset[str]) -> set[str]:
    if name in above or name not in documents:
        return set()
    found = Filter(parse(documents[name]))
    variables = found.variables
    for reference in found.references:
        given = {parameter for parameter, _value in reference.parameters}
        variables |= _needed(reference.filter, documents, above | {name}) - given
    return variables


def tree_of(name: str, documents: Mapping[str, str]) -> list[str]:
    """The filter and all that it refers to, each once."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found and one in documents:
            found[one] = None
            waiting += [ref.filter for ref in Filter(parse(documents[one])).references]
    return list(found)


def reference_of(tree: Tree) -> Reference:
    """Of a <filterref>, in a filter or in a machine's NIC."""
    pairs = [(one.get("name", ""), one.get("value", "")) for one in tree.iterfind("parameter")]
    return Reference(tree.get("filter", ""), tuple(pairs))


def refer(nic: Tree, reference: Reference | None) -> None:
    """Have a NIC (an <interface>) use this filter; None: none at all."""
    for old in nic.findall("filterref"):
        nic.remove(old)
    if reference is not None:
        _write_reference(etree.SubElement(nic, "filterref"), reference)


def _write_reference(tree: Tree, reference: Reference) -> None:
    tree.set("filter", reference.filter)
    for name, value in reference.parameters:
        etree.SubElement(tree, "parameter", name=name, value=value)


@lru_cache(maxsize=1024)
def is_same(one: str, other: str) -> bool:
    """Whether two documents mean the same: libvirt prints what it is given in its own way."""
    return _meaning(one) == _meaning(other)


def _meaning(text: str) -> tuple[Any, ...]:
    found = Filter(parse(text))
    entries = [
        entry.model_dump() if isinstance(entry, Rule) else entry for _place, entry in found.entries
    ]
    return (found.name, found.chain or "root", found.priority, entries)


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """What the mirror keeps in columns of ``models.NwFilter``."""

    chain: str
    references: list[str]


def facts(xml: str) -> FilterFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    found = Filter(parse(xml))
    return FilterFacts(
        chain=found.chain or "root",
        references=[reference.filter for reference in found.references],
    )


def protocol_of(rule: Tree) -> Tree | None:
    """The element that says what the <rule> looks at."""
    return next((child for child in rule if child.tag in PROTOCOLS), None)


def _entries(tree: Tree) -> list[Tree]:
    return [child for child in tree if child.tag in ("rule", "filterref")]


def _set(tree: Tree, name: str, text: str) -> None:
    if text:
        tree.set(name, text)
    else:
        tree.attrib.pop(name, None)


def _number(text: str, otherwise: int) -> int:
    return int(text) if re.fullmatch(r"-?\d{1,6}", text) else otherwise


def _check_priority(tree: Tree) -> None:
    text = tree.get("priority", "0")
    if not re.fullmatch(r"-?\d{1,4}", text) or not -1000 <= int(text) <= 1000:
        raise XmlError(
            "A priority is a whole number from -1000 to 1000.", line=tree.sourceline or 0
        )


def _check_rule(tree: Tree) -> None:
    line = tree.sourceline or 0
    for name, known in (("action", ACTIONS), ("direction", DIRECTIONS)):
        if tree.get(name) not in known:
            raise XmlError(f"A <rule> needs {name}= one of {', '.join(known)}.", line=line)
    _check_priority(tree)
    elements = [child for child in tree if isinstance(child.tag, str)]
    if len(elements) > 1:
        raise XmlError("A <rule> looks at one protocol: make two rules of this.", line=line)
    protocol = protocol_of(tree)
    if protocol is None:
        return  # none at all, or one that only a newer libvirt knows
    tag = str(protocol.tag)
    for name, text in protocol.attrib.items():
        is_known = name in PROTOCOLS[tag] or name in ("match", "comment")
        sentence = (
            flaw(tag, str(name), str(text)) if is_known else f"<{tag}> has no such attribute."
        )
        if sentence:
            raise XmlError(f"{name!s}: {sentence}", line=protocol.sourceline or line)
