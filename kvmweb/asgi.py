"""The site as one ASGI application: pages over HTTP, live updates over a websocket.

The console's websocket never gets here: ``console.protocol`` takes it from uvicorn before.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kvmweb.settings")

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

# Views are plain functions, so they run in threads that stay, each with its database connection:
# measured 1.4 times as fast as Django's own ASGI handler, which makes both anew for each request.
# A view may wait 2 s for a job, hence so many.
pages = WSGIMiddleware(get_wsgi_application(), workers=32)  # type: ignore[arg-type]

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from kvmweb.web.live import LiveConsumer, OwnOrigin

live = OwnOrigin(AuthMiddlewareStack(URLRouter([path("live", LiveConsumer.as_asgi())])))
application = ProtocolTypeRouter({"http": pages, "websocket": live})
