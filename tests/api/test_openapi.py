"""The document that describes the API: whole, and true to the operations."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from kvmweb.models import Machine
from kvmweb.operations.operation import of_noun

MACHINE_OPERATIONS = [o for o in of_noun("machines") if o.target is Machine]


@pytest.fixture
def document(alice_api: Client) -> dict[str, Any]:
    response = alice_api.get("/api/v1/openapi.json")
    assert response["Content-Type"].startswith("application/json")
    found: dict[str, Any] = response.json()
    return found


def _routes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    if isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(_references(document)):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_route_has_a_name_of_its_own_and_a_summary(document: dict[str, Any]) -> None:
    names = [route["operationId"] for route in _routes(document)]
    assert len(names) == len(set(names))
    assert all(route["summary"] for route in _routes(document))


def test_every_route_says_how_it_refuses(document: dict[str, Any]) -> None:
    for route in _routes(document):
        assert {"401", "default"} <= set(route["responses"])
        assert route["security"] == [{"Token": []}, {"Session": []}]
    assert set(document["components"]["securitySchemes"]) == {"Token", "Session"}


@pytest.mark.parametrize("operation", MACHINE_OPERATIONS, ids=lambda o: o.name)
def test_every_operation_is_described(operation: Any, document: dict[str, Any]) -> None:
    path = f"/api/v1/machines/{{uuid}}/{operation.name}"
    route = document["paths"][path]["post"]
    assert route["operationId"] == f"machines_{operation.name}"
    assert route["summary"] == str(operation.label)
    assert str(operation.needs.label) in route["description"]
    assert {"200", "202", "403", "404", "409", "422"} <= set(route["responses"])
    arguments = operation.arguments.model_fields
    assert ("requestBody" in route) == bool(arguments)
    if arguments:
        schema = route["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == set(arguments)


def test_making_a_machine_needs_a_host_and_has_examples(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/machines"]["post"]["requestBody"]
    media = body["content"]["application/json"]
    assert body["required"]
    assert "host" in media["schema"]["required"]
    assert all(example["value"]["host"] for example in media["examples"].values())


def test_states_are_virshs_words(document: dict[str, Any]) -> None:
    states = document["components"]["schemas"]["State"]["enum"]
    assert {"running", "paused", "shutoff", "in shutdown", "crashed"} <= set(states)


def test_every_schema_has_only_what_json_has(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document)) == document


def test_the_index_leads_to_the_lists(alice_api: Client) -> None:
    index = alice_api.get("/api/v1/").json()
    assert alice_api.get(index["openapi"]).status_code == 200
    for address in index["lists"].values():
        assert alice_api.get(address).status_code == 200
