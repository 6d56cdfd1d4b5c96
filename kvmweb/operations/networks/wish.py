"""What a person fills in to get a network, or to change one."""

from typing import Annotated

from django.utils.translation import gettext as _
from pydantic import AfterValidator, Field

from kvmweb.spec.network import NetworkDocument

# The name becomes a file name on the host: "<name>.xml", "<name>.conf", "<name>.hostsfile".
NAME_BYTES = 240


def checked_name(text: str) -> str:
    """What libvirt takes (virNetworkDefParseXML) and its files can be called."""
    if "/" in text:
        raise ValueError(_("A name can't contain “/”."))
    if any(not letter.isprintable() for letter in text):
        raise ValueError(_("The name contains a character that can't be seen. Type it again."))
    if text in (".", "..") or text.startswith("-"):
        raise ValueError(_("This can't be a name. Begin it with a letter or a digit."))
    if len(text.encode(errors="replace")) > NAME_BYTES:
        raise ValueError(_("The name is too long: at most 240 bytes."))
    return text


Name = Annotated[
    str,
    AfterValidator(checked_name),
    Field(title="Name", description="libvirt can't change it later.", examples=["lab"]),
]
Cut = Annotated[
    bool,
    Field(
        title="Go on although running machines are on it",
        description="They lose their connection.",
    ),
]


class Wish(NetworkDocument):
    """Either libvirt's XML, or the fields."""

    xml: Annotated[
        str,
        Field(title="XML", description="A whole <network>; the fields are not used then."),
    ] = ""
    name: Name = ""
    start: Annotated[bool, Field(title="Start now")] = True
    autostart: Annotated[bool, Field(title="Start when the host boots")] = True


class Change(NetworkDocument):
    """Either libvirt's XML, or those of the fields that change."""

    xml: Annotated[
        str,
        Field(title="XML", description="A whole <network>; the fields are not used then."),
    ] = ""
    version: Annotated[
        str,
        Field(
            title="Version",
            description="The one that was looked at, so that no newer one is overwritten; or "
            "empty.",
        ),
    ] = ""
    restart: Annotated[
        bool,
        Field(
            title="Restart the network if the change needs it",
            description="Running machines are plugged in again; they are cut for a moment.",
        ),
    ] = False


FIELDS = frozenset(NetworkDocument.model_fields)


def wanted(before: NetworkDocument, change: Change) -> NetworkDocument:
    """The document with what the change says."""
    fields = {name: getattr(change, name) for name in change.model_fields_set & FIELDS}
    return before.model_copy(update=fields)


def document_in(wish: Wish) -> NetworkDocument:
    """Only the fields that are the document's."""
    return NetworkDocument.model_validate(wish.model_dump(include=set(FIELDS)))
