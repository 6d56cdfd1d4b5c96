"""A host's own network: what is wanted, what is there, and the way from one to the other."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import Query, Router
from ninja.responses import Status
from pydantic import AliasPath, Field

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.hosts import find
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Cursor, Limit, page
from kvmweb.api.offers import described, refusals
from kvmweb.models import ChangeState, HostNetwork, NetworkChange
from kvmweb.operations import hostnet as operations
from kvmweb.operations.operation import Operation
from kvmweb.spec.hostnet import HostNetwork as Wanted
from kvmweb.spec.hostnet_edits import to_yaml

router = Router(tags=["hosts"])

# In addresses; the others are called as they are.
NAMES = {operations.run_command: "run"}
_BRIDGE = {"kind": "bridge", "name": "br-lab", "addresses": ["10.0.1.254/24"]}
_DIGEST = "9f2c...-4be1a9"
EXAMPLES: dict[Operation, dict[str, Any]] = {
    operations.preview: {
        "a bridge with an address": {"document": {"links": [_BRIDGE]}},
        "the uplink onto a bridge": {
            "document": {"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]}
        },
    },
    operations.apply: {
        "what was looked at": {"document": {"links": [_BRIDGE]}, "digest": _DIGEST},
    },
    operations.run_command: {"in a router": {"command": ["ip", "route"], "router": "lab"}},
    operations.look: {"a bridge's flows": {"what": "flows", "name": "br-int"}},
}


class Change(schemas.Document):
    id: UUID
    state: ChangeState
    user: str | None = Field(None, validation_alias=AliasPath("user", "username"))
    note: str = Field(description="Why it came to its state.")
    deadline: datetime | None = Field(
        description="When the host reverts it by itself, unless it is confirmed."
    )
    before: dict[str, Any]
    after: dict[str, Any]
    steps: list[dict[str, Any]]
    created: datetime


class Changes(schemas.Page[Change]):
    pass


class Network(schemas.Document):
    desired: dict[str, Any] = Field(
        description="The document that is wanted, without what is as it is by default."
    )
    actual: dict[str, Any] = Field(description="What the host said it has.")
    drift: list[dict[str, Any]] = Field(
        description="Steps that would bring the host back to what is wanted."
    )
    problem: str = Field(description="Why the host's network can't be read, as a sentence.")
    read: datetime | None = Field(description="When the host was last asked.")
    unconfirmed: UUID | None = Field(None, description="The change that waits for confirmation.")
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
    )


@router.get(
    "/{name}/network",
    operation_id="hostnet_get",
    summary="A host's own network",
    response=Network,
)
def read(request: HttpRequest, name: str) -> Network:
    host = find(request, name)
    row = HostNetwork.of(host)
    pending = operations.pending(host.pk)
    return Network(
        desired=_written(row.desired),
        actual=row.actual,
        drift=row.drift,
        problem=row.problem,
        read=row.read,
        unconfirmed=pending.pk if pending else None,
        operations={
            NAMES.get(one, one.name): refusals([one], caller(request), host)[one.name]
            for one in operations.ALL
        },
    )


def _written(document: dict[str, Any]) -> dict[str, Any]:
    return Wanted.model_validate(document).without_defaults()


_YAML: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The document",
            "content": {"application/yaml": {"schema": {"type": "string"}}},
        }
    }
}


@router.get(
    "/{name}/network.yaml",
    operation_id="hostnet_yaml",
    summary="What is wanted, as YAML",
    openapi_extra=_YAML,
)
def export(request: HttpRequest, name: str) -> HttpResponse:
    """For `python manage.py apply FILE --host NAME`."""
    host = find(request, name)
    disposition = content_disposition_header(as_attachment=True, filename=f"{host.name}.yaml")
    return HttpResponse(
        to_yaml(_written(HostNetwork.of(host).desired)),
        content_type="application/yaml; charset=utf-8",
        headers={"Content-Disposition": disposition or "attachment"},
    )


States = Annotated[list[ChangeState], Query([], description="Only in this state; may be repeated.")]


@router.get(
    "/{name}/network/changes",
    operation_id="hostnet_changes",
    summary="Changes to a host's network",
    response=Changes,
)
def changes(
    request: HttpRequest,
    name: str,
    state: States = [],  # noqa: B006 - ninja's way to say that it may be left out
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Changes:
    """The newest first."""
    rows = NetworkChange.objects.visible_to(caller(request)).filter(host=find(request, name))
    rows = rows.select_related("user")
    if state:
        rows = rows.filter(state__in=state)
    found, following = page(rows, order=("-created", "-id"), cursor=cursor, limit=limit)
    return Changes(items=[Change.model_validate(one) for one in found], next=following)


def _offer(operation: Operation) -> None:
    name = NAMES.get(operation, operation.name)

    @router.post(
        f"/{{name}}/network/{name}", **described(operation, examples=EXAMPLES.get(operation))
    )
    def view(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, name))


for _operation in operations.ALL:
    _offer(_operation)
