"""Drift into the document: what somebody changed on the host becomes what is wanted.

Only what the document names is looked at, and of that only what it says something about.
"""

from typing import Any

from kvmweb.net import routers
from kvmweb.spec.hostnet_edits import Document, without_link

Json = dict[str, Any]
# Of a port of Open vSwitch: the document's name, and what the database has.
_PORT_COLUMNS = {
    "tag": "tag",
    "trunks": "trunks",
    "vlan_mode": "vlan_mode",
    "bond_mode": "bond_mode",
    "lacp": "lacp",
}
_SWITCH_COLUMNS = {
    "fail_mode": "fail_mode",
    "stp": "stp_enable",
    "rstp": "rstp_enable",
    "mcast_snooping": "mcast_snooping_enable",
}


def taken_over(desired: Document, actual: Json) -> Document:
    """What is wanted, brought in line with what is there."""
    links = {one["name"]: one for one in actual.get("links", []) if not one["namespace"]}
    document = desired
    for link in desired.get("links", []):
        if link["name"] not in links:
            document = without_link(document, link["name"])
    return {
        **document,
        "links": [_link(link, links[link["name"]], actual) for link in document.get("links", [])],
        "routes": [one for one in desired.get("routes", []) if _is_there(one, actual)],
        "switches": _switches(desired, actual, links),
        "routers": _routers(desired, actual),
        "forwards": [one for one in desired.get("forwards", []) if _is_forwarded(one, actual)],
    }


def _link(link: Json, row: Json, actual: Json) -> Json:
    """Its fields as they are; those that are None are none of our business."""
    placed = ("name", "kind", "addresses", "master", "port", "offloads", "uplink")
    fields = {
        name: row[name]
        for name, value in link.items()
        if name not in placed and value is not None and name in row
    }
    return {
        **link,
        **fields,
        "addresses": _addresses(link, row, actual),
        "master": row.get("master") if _is_ports(row, actual) else None,
        "port": _fields(link.get("port") or {}, row.get("port") or {}),
        "offloads": _fields(link.get("offloads") or {}, row.get("offloads") or {}),
        **({"uplink": _uplink(link, actual)} if "uplink" in link else {}),
    }


def _fields(wanted: Json, found: Json) -> Json:
    return {
        name: found[name] if value is not None and name in found else value
        for name, value in wanted.items()
    }


def _is_ports(row: Json, actual: Json) -> bool:
    """Whether what it is a port of is a Linux bridge or bond, and no uplink of one."""
    masters = {
        one["name"]
        for one in actual.get("links", [])
        if one["kind"] in ("bridge", "bond") and not one["namespace"]
    }
    return row.get("master") in masters


def _uplink(link: Json, actual: Json) -> str | None:
    uplink = link["uplink"]
    for one in actual.get("links", []):
        if not one["namespace"] and one["name"] == uplink and one.get("master") == link["name"]:
            return str(uplink)
    return None


def _addresses(link: Json, row: Json, actual: Json) -> list[str]:
    """On what we made, all that somebody gave it; on what was there, only ours that are left."""
    there: list[str] = row.get("addresses", [])
    if link["kind"] == "physical":
        return [one for one in link["addresses"] if one in there]
    given = [
        one["address"]
        for one in actual.get("addresses", [])
        if not one["namespace"]
        and one["dev"] == link["name"]
        and one["is_permanent"]
        and one["scope"] == "global"
    ]
    kept = [one for one in link["addresses"] if one in there]
    return kept + [one for one in given if one not in kept]


def _is_there(route: Json, actual: Json) -> bool:
    return any(
        one["to"] == route["to"]
        and not one["namespace"]
        and route.get("via") in (None, one.get("via"))
        and route.get("dev") in (None, one.get("dev"))
        for one in actual.get("routes", [])
    )


def _is_forwarded(forward: Json, actual: Json) -> bool:
    keys = ("protocol", "port", "address")
    found = [tuple(one.get(key) for key in keys) for one in actual.get("forwards", [])]
    return tuple(forward.get(key) for key in keys) in found


def _routers(desired: Document, actual: Json) -> list[Json]:
    found = {one["name"]: one for one in actual.get("routers", []) if one["is_ours"]}
    return [
        _router(one, routers.document(found[one["name"]]))
        for one in desired.get("routers", [])
        if one["name"] in found
    ]


def _router(wanted: Json, found: Json) -> Json:
    """A leg whose MAC address or MTU was nobody's wish has none to be kept to."""
    legs = {one["name"]: one for one in wanted["legs"]}
    kept = ("mac", "mtu")
    return {
        **found,
        "legs": [
            {**leg, **{name: None for name in kept if not legs.get(leg["name"], {}).get(name)}}
            for leg in found["legs"]
        ],
    }


def _switches(desired: Document, actual: Json, links: Json) -> list[Json]:
    found = {one["name"]: one for one in actual.get("switches", [])}
    return [
        _switch(one, found[one["name"]], links)
        for one in desired.get("switches", [])
        if one["name"] in found
    ]


def _switch(switch: Json, row: Json, links: Json) -> Json:
    ports = {one["name"]: one for one in row["ports"]}
    own = links.get(switch["name"], {})
    return {
        **switch,
        **{
            name: row.get(column, _nothing(switch[name]))
            for name, column in _SWITCH_COLUMNS.items()
        },
        "addresses": [one for one in switch["addresses"] if one in own.get("addresses", [])],
        "ports": [
            _port(one, ports[one["name"]]) for one in switch["ports"] if one["name"] in ports
        ],
        "mirrors": [
            one
            for one in switch["mirrors"]
            if one["name"] in [mirror["name"] for mirror in row.get("mirrors", [])]
        ],
    }


def _port(port: Json, row: Json) -> Json:
    return {
        **port,
        **{name: row.get(column, _nothing(port[name])) for name, column in _PORT_COLUMNS.items()},
    }


def _nothing(value: Any) -> Any:
    """What an empty column says."""
    return type(value)() if isinstance(value, (bool, list)) else None
