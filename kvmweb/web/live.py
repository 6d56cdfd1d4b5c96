"""The live socket: names of things that changed, for browsers that asked and may see them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.security.websocket import WebsocketDenier
from django.contrib.auth import get_user
from django.db.models import QuerySet

from kvmweb.models import Host, Job, Machine, Network, NwFilter, Pool, SecurityGroup, User
from kvmweb.models.access import SEE, Viewer, may
from kvmweb.models.live import group
from kvmweb.origins import is_own_origin

# A page shows at most a screenful of things; more is a program gone wrong.
MAX_TOPICS = 500
CHECK_SESSION_EVERY = 10.0
WITHDRAWN = 4001

_SUMMARIES = {"machines", "hosts", "networks", "pools", "filters", "security-groups"}
_OF_HOST = {"host", "devices", "usage", "hostnet", "hostnet-usage"}
_ROWS: dict[str, Callable[[Viewer], QuerySet[Any]]] = {
    "machine": Machine.objects.visible_to,
    "network": Network.objects.visible_to,
    "pool": Pool.objects.visible_to,
    "nwfilter": NwFilter.objects.visible_to,
    "security-group": SecurityGroup.objects.visible_to,
    "host": Host.objects.visible_to,
    "job": Job.objects.visible_to,
}


def visible_topics(user: Viewer, topics: Iterable[str]) -> set[str]:
    """Those of the topics that this user may be told of."""
    wanted = defaultdict(list)
    visible = set()
    for topic in topics:
        kind, _colon, key = topic.partition(":")
        if not key and (kind == "jobs" or (kind in _SUMMARIES and may(user, SEE))):
            visible.add(topic)
        elif key and kind in _OF_HOST | _ROWS.keys():
            wanted[kind].append(key)
    for kind, keys in wanted.items():
        visible |= {f"{kind}:{key}" for key in _known(user, kind, keys)}
    return visible


def _known(user: Viewer, kind: str, keys: list[str]) -> set[str]:
    rows = _ROWS["host" if kind in _OF_HOST else kind](user)
    field = "pk" if kind in {"job", *_OF_HOST} else "uuid"
    if kind in _OF_HOST:
        keys = [key for key in keys if key.isascii() and key.isdigit() and len(key) < 19]
    else:
        keys = [key for key in keys if _is_uuid(key)]
    return {str(key) for key in rows.filter(**{f"{field}__in": keys}).values_list(field, flat=True)}


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and all(letter in "0123456789abcdef-" for letter in text)


class LiveConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """``{"subscribe": [topics]}`` comes in and replaces the earlier list; ``{"changed": topic}``
    goes out.
    """

    topics: set[str]
    checked: float

    async def connect(self) -> None:
        self.topics, self.checked = set(), time.monotonic()
        if isinstance(self.scope["user"], User):
            await self.accept()
        else:
            await self.close()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        asked = content.get("subscribe") if isinstance(content, dict) else None
        if not isinstance(asked, list) or not all(isinstance(topic, str) for topic in asked):
            await self.close(code=1003)
            return
        visible = await database_sync_to_async(visible_topics)(
            self.scope["user"], asked[:MAX_TOPICS]
        )
        for topic in self.topics - visible:
            await self.channel_layer.group_discard(group(topic), self.channel_name)
        for topic in visible - self.topics:
            await self.channel_layer.group_add(group(topic), self.channel_name)
        self.topics = visible
        await self.send_json({"subscribed": len(visible)})

    async def changed(self, event: dict[str, str]) -> None:
        """A channel-layer message of type ``changed``."""
        if time.monotonic() - self.checked > CHECK_SESSION_EVERY:
            self.checked = time.monotonic()
            if not await database_sync_to_async(self._is_signed_in)():
                await self.close(code=WITHDRAWN)
                return
        await self.send_json({"changed": event["topic"]})

    async def disconnect(self, code: int) -> None:
        for topic in self.topics:
            await self.channel_layer.group_discard(group(topic), self.channel_name)

    def _is_signed_in(self) -> bool:
        session = type(self.scope["session"])(self.scope["session"].session_key)
        return bool(get_user(_Request(session)).is_authenticated)  # type: ignore[arg-type]


class _Request:
    """As much of a request as ``django.contrib.auth.get_user`` reads."""

    def __init__(self, session: Any) -> None:
        self.session = session


class OwnOrigin:
    """Refuses websockets that another site's page opens with this user's cookie."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = {name: value.decode("latin1") for name, value in scope["headers"]}
        if is_own_origin(
            headers.get(b"origin"),
            headers.get(b"host", ""),
            secure=scope.get("scheme") in ("https", "wss"),
        ):
            return await self.application(scope, receive, send)
        return await WebsocketDenier()(scope, receive, send)
