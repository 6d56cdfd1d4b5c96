"""A filter's rules as people read and write them: words for the table, and the forms."""

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext_lazy as _

from kvmweb.models import NwFilter
from kvmweb.operations import filters
from kvmweb.operations.operation import Operation
from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Filter, Rule
from kvmweb.spec.nwprotocols import ETHERNET, PROTOCOLS, flaws, inputs, joined, seconds, split
from kvmweb.spec.xml import parse
from kvmweb.web.operate import Asking

WORDS = {
    "accept": _("accept"),
    "drop": _("drop"),
    "reject": _("reject"),
    "continue": _("continue"),
    "return": _("return"),
    "in": _("incoming"),
    "out": _("outgoing"),
    "inout": _("both ways"),
}
MEANINGS = {
    "continue": _("continue with the next rule"),
    "return": _("return to the calling chain"),
    "reject": _("reject with an ICMP message"),
}
# What is asked about a rule beside its conditions; they come as c-NAME.
_PREFIX = "c-"


def documents(host_id: int) -> dict[str, str]:
    return dict(NwFilter.objects.filter(host=host_id).values_list("name", "xml"))


def entry_of(place: int, entry: Rule | nwfilter.Reference, names: set[str]) -> dict[str, Any]:
    if isinstance(entry, nwfilter.Reference):
        return {
            "place": place,
            "reference": entry,
            "is_missing": entry.filter not in names,
        }
    return {
        "place": place,
        "rule": entry,
        "action": WORDS.get(entry.action, entry.action),
        "direction": WORDS.get(entry.direction, entry.direction),
    }


def entry_at(row: NwFilter, request: HttpRequest) -> dict[str, Any]:
    data = request.POST if request.method == "POST" else request.GET
    entries = Filter(parse(row.xml)).entries
    text = data.get("place", "")
    place = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= place < len(entries):
        raise Http404
    return entry_of(place, entries[place][1], set()) | {
        "version": data.get("version") or row.version
    }


@dataclass(frozen=True)
class Condition:
    """One input of a rule's form; ``is_rare``: shown when somebody asks for more."""

    name: str
    label: str
    value: str
    error: str
    is_rare: bool


def _is_rare(protocol: str, name: str) -> bool:
    common = {"srcipaddr", "dstipaddr", "srcportstart", "dstportstart", "type", "code", "protocol"}
    common |= {"protocolid", "vlanid", "opcode", "arpsrcipaddr", "arpdstipaddr", "arpsrcmacaddr"}
    if protocol in ("mac", "vlan", "stp", "arp", "rarp"):
        common |= {"srcmacaddr", "dstmacaddr"}
    return name not in common


@dataclass(frozen=True)
class RuleAsking(Asking):
    """A rule's form: which conditions it asks for depends on the protocol that is chosen in it."""

    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert isinstance(self.target, NwFilter)
        values = arguments or self._begun(self.target)
        protocol = values.get("protocol", "")
        conditions = values.get("conditions", {})
        wrong = flaws(protocol, conditions) if "conditions" in errors else {}
        typed = joined(protocol, conditions) if protocol in PROTOCOLS else {}
        firsts = _firsts(protocol, wrong)
        asked = [
            Condition(
                name, label, typed.get(name, ""), firsts.get(name, ""), _is_rare(protocol, name)
            )
            for name, label in (inputs(protocol) if protocol in PROTOCOLS else [])
        ]
        more |= {
            "values": values,
            "protocols": PROTOCOLS,
            "ethernet": sorted(ETHERNET),
            "actions": [(name, MEANINGS.get(name, WORDS[name])) for name in nwfilter.ACTIONS],
            "directions": [(name, WORDS[name]) for name in nwfilter.DIRECTIONS],
            "conditions": [one for one in asked if not one.is_rare],
            "rare": [one for one in asked if one.is_rare],
            "is_rare_open": any(one.is_rare and (one.value or one.error) for one in asked),
            "is_reloaded": "action" in self.request.GET,
        }
        return super().form(values, errors, status=status, **more)

    def _begun(self, row: NwFilter) -> dict[str, Any]:
        """What the form shows first: what it was sent to be shown again, the rule, or a new one."""
        data = self.request.GET
        if "action" in data:
            return read_rule(self.operation, data)
        version = data.get("version") or row.version
        if self.operation is filters.add_rule:
            return {**Rule(protocol="tcp").model_dump(), "version": version}
        entry = entry_at(row, self.request)
        if "rule" not in entry:
            raise Http404
        return {**entry["rule"].model_dump(), "place": entry["place"], "version": version}


def _firsts(protocol: str, wrong: dict[str, str]) -> dict[str, str]:
    """The sentences at the inputs: a pair has but one."""
    pairs = seconds(protocol) if protocol in PROTOCOLS else {}
    first = {second: name for name, (second, _separator) in pairs.items()}
    found: dict[str, str] = {}
    for name, sentence in wrong.items():
        found.setdefault(first.get(name, name), sentence)
    return found


def read_rule(operation: Operation, data: QueryDict) -> dict[str, Any]:
    protocol = data.get("protocol", "")
    typed = {
        name.removeprefix(_PREFIX): text
        for name, text in data.items()
        if isinstance(text, str) and name.startswith(_PREFIX)
    }
    known = PROTOCOLS.get(protocol, ())
    conditions = (
        split(protocol, {name: typed[name] for name in typed if name in known}) if known else {}
    )
    arguments: dict[str, Any] = {
        name: data[name]
        for name in ("action", "direction", "priority", "comment", "version", "place")
        if name in data
    }
    return {
        **arguments,
        "protocol": protocol,
        "conditions": conditions,
        "is_stateful": "is_stateful" in data,
        "is_negated": "is_negated" in data,
    }


@dataclass(frozen=True)
class ReferenceAsking(Asking):
    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert isinstance(self.target, NwFilter)
        known = documents(self.target.host_id)
        data = self.request.POST if self.request.method == "POST" else self.request.GET
        chosen = data.get("filter", "")
        given = arguments.get("parameters", {})
        more |= {
            "choices": [
                name for name in known
                if self.target.name not in nwfilter.tree_of(name, known)
            ],
            "chosen": chosen,
            "variables": [
                (name, given.get(name, ""))
                for name in nwfilter.needed(chosen, known)
                if name not in nwfilter.AUTOMATIC
            ],
            "version": data.get("version") or self.target.version,
        }  # fmt: skip
        return super().form(arguments, errors, status=status, **more)


def read_reference(operation: Operation, data: QueryDict) -> dict[str, Any]:
    parameters = {
        name.removeprefix(_PREFIX): text.strip()
        for name, text in data.items()
        if isinstance(text, str) and name.startswith(_PREFIX) and text.strip()
    }
    return {
        "filter": data.get("filter", ""),
        "parameters": parameters,
        "version": data.get("version", ""),
    }
