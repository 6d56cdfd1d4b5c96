"""/api/v1: what a program sees of the site. Generated from the operations and the models."""

from typing import Any, NoReturn

from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, re_path
from ninja import NinjaAPI
from ninja.errors import ValidationErrorContext

from kvmweb.api import (
    filters,
    hostnet,
    hosts,
    jobs,
    machines,
    networks,
    nics,
    people,
    security_groups,
    storage,
)
from kvmweb.api.authentication import Session, Token
from kvmweb.api.bodies import StrictParser
from kvmweb.api.edges import nothing_here, with_problems
from kvmweb.api.openapi import DESCRIPTION, document
from kvmweb.api.problems import AS_PROBLEM, bad_input, handler
from kvmweb.operations.operation import sentences


class Api(NinjaAPI):
    """django-ninja with problems in place of its own errors, at the edges as well."""

    def validation_error_from_error_contexts(
        self, error_contexts: list[ValidationErrorContext[Any]]
    ) -> NoReturn:
        fields: dict[str, str] = {}
        for context in error_contexts:
            found = sentences(context.pydantic_validation_error)
            for name, sentence in found.items():
                fields.setdefault(name.partition(".")[0], sentence)
        raise bad_input(fields)

    def _get_urls(self) -> list[URLResolver | URLPattern]:
        patterns = [*super()._get_urls(), re_path(r"[\s\S]*", nothing_here)]
        for pattern in patterns:
            assert isinstance(pattern, URLPattern)
            assert pattern.callback is not None
            pattern.callback = with_problems(pattern.callback)
        return patterns


api = Api(
    title="kvmweb",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    auth=[Token(), Session()],
    parser=StrictParser(),
    openapi_url=None,
    docs_url=None,
)
for _kind in AS_PROBLEM:
    api.add_exception_handler(_kind, handler(_kind))

api.add_router("", people.router)
api.add_router("/machines", machines.router)
api.add_router("/machines", nics.router)
api.add_router("/hosts", hosts.router)
api.add_router("/hosts", hostnet.router)
api.add_router("/networks", networks.router)
api.add_router("/filters", filters.router)
api.add_router("/security-groups", security_groups.router)
api.add_router("/machines", security_groups.of_machines)
api.add_router("/pools", storage.router)
api.add_router("/jobs", jobs.router)


@api.get("/openapi.json", include_in_schema=False)
def openapi(request: HttpRequest) -> Any:
    return document(api)
