"""Who one is, and where to go from here."""

from django.http import HttpRequest
from django.urls import reverse
from ninja import Router

from kvmweb.api import schemas
from kvmweb.api.authentication import caller, token
from kvmweb.models.access import PRIVILEGES, Privilege

router = Router(tags=["me"])


@router.get("/", operation_id="index", summary="What is here", response=schemas.Index)
def index(request: HttpRequest) -> schemas.Index:
    """Where to begin."""
    root = reverse("api:api-root")
    return schemas.Index(
        name="kvmweb",
        version="v1",
        openapi=f"{root}openapi.json",
        lists={noun: root + noun for noun in ("machines", "hosts", "networks", "pools", "jobs")},
    )


@router.get("/me", operation_id="me", summary="Who I am", response=schemas.Me)
def me(request: HttpRequest) -> schemas.Me:
    """The person whose session or token this is, and what they may do."""
    user, used = caller(request), token(request)
    held = PRIVILEGES[user.role]
    return schemas.Me(
        username=user.username,
        role=user.role,
        privileges=[privilege for privilege in Privilege if privilege in held],
        token=used.name if used else None,
    )
