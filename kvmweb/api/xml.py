"""libvirt's documents as they are."""

from typing import Any, Protocol

from django.http import HttpResponse
from django.utils.http import content_disposition_header

XML: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The document",
            "content": {"text/xml": {"schema": {"type": "string"}}},
        }
    }
}


class Named(Protocol):
    name: str


def xml_response(named: Named, xml: str) -> HttpResponse:
    """Always to be saved, never shown in the browser: its metadata could hold a script."""
    disposition = content_disposition_header(as_attachment=True, filename=f"{named.name}.xml")
    return HttpResponse(
        xml,
        content_type="text/xml; charset=utf-8",
        headers={"Content-Disposition": disposition} if disposition else None,
    )
