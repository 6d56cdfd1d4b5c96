"""The site as one ASGI application: pages over HTTP, live updates over a websocket.

The console's websocket never gets here: ``console.protocol`` takes it from uvicorn before.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kvmweb.settings")

from django.core.asgi import get_asgi_application  # noqa: E402

pages = get_asgi_application()  # before anything imports models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from kvmweb.web.live import LiveConsumer, OwnOrigin  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": pages,
        "websocket": OwnOrigin(
            AuthMiddlewareStack(URLRouter([path("live", LiveConsumer.as_asgi())]))
        ),
    }
)
