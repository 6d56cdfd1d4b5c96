"""Is the site up, and its agent?"""

from datetime import timedelta

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from kvmweb.models import Agent


@login_not_required
def page(request: HttpRequest) -> JsonResponse:
    """200 when the database answers and an agent was seen lately, else 503."""
    since = timezone.now() - timedelta(seconds=Agent.GONE_AFTER_SECONDS)
    try:
        has_agent = Agent.objects.filter(seen__gt=since).exists()
    except DatabaseError:
        return JsonResponse({"site": "up", "database": "down", "agent": "unknown"}, status=503)
    answer = {"site": "up", "database": "up", "agent": "up" if has_agent else "down"}
    return JsonResponse(answer, status=200 if has_agent else 503)
