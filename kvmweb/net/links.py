"""Links, addresses, routes, Linux bridges and their ports, in any namespace."""

from __future__ import annotations

from typing import Any

from kvmweb.net.context import Context
from kvmweb.net.step import Step


def by_name(actual: dict[str, Any], namespace: str = "") -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in actual["links"] if one["namespace"] == namespace}


def read(context: Context) -> dict[str, Any]:
    return {"links": [], "routes": [], "namespaces": [], "features": {}}


def plan(
    context: Context, actual: dict[str, Any], desired: dict[str, Any], owned: dict[str, Any]
) -> list[Step]:
    return []
