"""Operations as routes: one for each, described by what the operation says of itself."""

import inspect
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from pydantic import BaseModel

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.problems import bad_input
from kvmweb.models import Host
from kvmweb.operations.operation import Forbidden, Operation, of_noun

REFERENCE = "#/components/schemas/{model}"
_PREFER = {
    "in": "header",
    "name": "Prefer",
    "description": "`respond-async`: answer with the queued job at once.",
    "schema": {"type": "string"},
    "required": False,
}


def of_target(noun: str, target: type[Model]) -> list[Operation]:
    """The operations of a noun that are done to one such thing."""
    return [operation for operation in of_noun(noun) if operation.target is target]


def host_named(request: HttpRequest, name: object, operation: Operation) -> Host:
    """The host a body names, for something new on it. Who may not make it is told that first."""
    rows = Host.objects.visible_to(caller(request))
    host = rows.filter(name=name).first() if isinstance(name, str) else None
    if host is not None:
        return host
    if refusal := operation.refusal(caller(request)):
        raise Forbidden(refusal)
    raise bad_input({"host": _("There is no such host.") if name else _("This is needed.")})


def described(
    operation: Operation,
    arguments: type[BaseModel] | None = None,
    *,
    operation_id: str = "",
    examples: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What django-ninja's router takes beside the path.

    The body is only described here: ``submit`` checks it, after it has checked the person."""
    model = arguments or operation.arguments
    extra: dict[str, Any] = {"parameters": [_PREFER]}
    if model.model_fields:
        extra["requestBody"] = request_body(model, examples or {})
    return {
        "operation_id": operation_id or operation.kind.replace(".", "_"),
        "summary": operation.label,
        "description": _description(operation),
        "response": {200: schemas.JobDetails, 202: schemas.JobDetails},
        "openapi_extra": extra,
    }


def request_body(model: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    """For OpenAPI. ``examples``: bodies by what they are an example of."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    media: dict[str, Any] = {"schema": schema}
    if examples:
        media["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"content": {"application/json": media}, "required": bool(schema.get("required"))}


def refusals(operations: list[Operation], user: Any, target: Model) -> dict[str, str | None]:
    """By name, why each may not be done now."""
    return {operation.name: operation.refusal(user, target) for operation in operations}


def _description(operation: Operation) -> str:
    text = inspect.getdoc(operation.function) or ""
    needs = format_lazy("Needs the right to {right}.", right=operation.needs.label)
    return format_lazy("{} {} {}", text, operation.confirm, needs)  # type: ignore[return-value]
