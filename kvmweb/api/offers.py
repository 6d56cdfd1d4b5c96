"""Operations as routes: one for each, described by what the operation says of itself."""

import inspect
from typing import Any

from django.db.models import Model
from django.utils.text import format_lazy
from pydantic import BaseModel

from kvmweb.api import schemas
from kvmweb.operations.operation import Operation, of_noun

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
