"""The API alone, so that its tests need no page."""

from django.urls import path

from kvmweb.api.root import api

urlpatterns = [path("api/v1/", api.urls)]
