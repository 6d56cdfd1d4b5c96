"""Who may do what. Roles are sets of privileges; every check in the site ends in ``may``."""

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from datetime import datetime


class Privilege(models.TextChoices):
    SEE = "see", _("see")
    OPERATE = "operate", _("start, shut down, reboot and pause")
    CONSOLE_VIEW = "console-view", _("look at consoles")
    CONSOLE_CONTROL = "console-control", _("use consoles")
    CREATE = "create", _("create machines")
    DELETE = "delete", _("delete machines")
    EDIT = "edit", _("edit the hardware of machines")
    NETWORKS = "networks", _("change networks")
    HOSTS = "hosts", _("add, change and remove hosts")
    USERS = "users", _("manage users")


SEE = Privilege.SEE
OPERATE = Privilege.OPERATE
CONSOLE_VIEW = Privilege.CONSOLE_VIEW
CONSOLE_CONTROL = Privilege.CONSOLE_CONTROL
CREATE = Privilege.CREATE
DELETE = Privilege.DELETE
EDIT = Privilege.EDIT
NETWORKS = Privilege.NETWORKS
HOSTS = Privilege.HOSTS
USERS = Privilege.USERS


class Role(models.TextChoices):
    NONE = "", _("No role")
    VIEWER = "viewer", _("Viewer")
    OPERATOR = "operator", _("Operator")
    ADMINISTRATOR = "administrator", _("Administrator")


_VIEWER = frozenset({SEE, CONSOLE_VIEW})
PRIVILEGES: dict[str, frozenset[Privilege]] = {
    Role.NONE: frozenset(),
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _VIEWER | {OPERATE, CONSOLE_CONTROL},
    Role.ADMINISTRATOR: frozenset(Privilege),
}


class User(AbstractUser):
    """A person or a program. Without a role one may sign in and sees nothing."""

    role = models.CharField(
        _("role"), max_length=20, choices=Role.choices, default=Role.NONE, blank=True
    )


Viewer = User | AnonymousUser


def may(user: Viewer, privilege: Privilege, target: models.Model | None = None) -> bool:
    """Whether ``user`` holds ``privilege`` on ``target`` (None: on the site as a whole)."""
    if not isinstance(user, User) or not user.is_active:
        return False
    return privilege in PRIVILEGES[user.role]


M = TypeVar("M", bound=models.Model)


class VisibleQuerySet(models.QuerySet[M]):
    """Rows of things that live on a host."""

    def visible_to(self, user: Viewer) -> Self:
        """The rows this user may see. Every page, API answer and live update starts here."""
        return self if may(user, SEE) else self.none()


class ApiToken(models.Model):
    """A program's key to /api/v1. Only its SHA-256 is kept."""

    PREFIX = "kvmweb_"

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    last_used = models.DateTimeField(null=True)
    expires = models.DateTimeField(null=True)

    @classmethod
    def issue(cls, user: User, name: str, **fields: Any) -> tuple["ApiToken", str]:
        """A new token and its text, which is shown this once."""
        text = cls.PREFIX + secrets.token_urlsafe(32)
        return cls.objects.create(user=user, name=name, digest=digest(text), **fields), text

    @classmethod
    def find(cls, text: str) -> "ApiToken | None":
        """The live token with this text, its user active; notes the use, at most once a minute."""
        now = timezone.now()
        token = cls.objects.select_related("user").filter(digest=digest(text)).first()
        if token is None or not token.is_valid(now):
            return None
        if token.last_used is None or (now - token.last_used).total_seconds() > 60:
            cls.objects.filter(pk=token.pk).update(last_used=now)
        return token

    def is_valid(self, now: "datetime") -> bool:
        return self.user.is_active and (self.expires is None or self.expires > now)


def digest(secret: str) -> str:
    """How a token or ticket is kept: it has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
