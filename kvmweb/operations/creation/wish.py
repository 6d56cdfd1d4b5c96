"""What a person fills in to get a machine."""

from typing import Annotated

from django.utils.translation import gettext as _
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kvmweb.spec.creation import Firmware, Source
from kvmweb.spec.hostnet import mac_address

# The name becomes a file name on the host: "<name>.xml", "<name>_VARS.fd", "<name>.xml.new"; file
# systems take 255 bytes.
NAME_BYTES = 240


def _name(text: str) -> str:
    """What libvirt takes (virDomainDefPostParseCheck) and a file system can hold."""
    if "/" in text:
        raise ValueError(_("A name can't contain “/”."))
    if any(not letter.isprintable() and not letter.isspace() for letter in text):
        raise ValueError(_("The name contains a character that can't be seen. Type it again."))
    if any(letter in "\n\r\t\v\f\x85\u2028\u2029" for letter in text):
        raise ValueError(_("A name is one line, without tabs."))
    if len(text.encode(errors="replace")) > NAME_BYTES:
        raise ValueError(
            _("The name is too long: at most 240 plain letters, fewer of others, as bytes count.")
        )
    return text


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(_("Enter the whole path on the host; it starts with “/”."))
    if any(not letter.isprintable() for letter in text):
        raise ValueError(_("The path contains a character that can't be seen. Type it again."))
    if text.endswith("/"):
        raise ValueError(_("This is a directory. Enter the path of a file in it."))
    return text


def _network(text: str) -> str:
    kind, _colon, name = text.partition(":")
    if text in ("", "none") or (kind in ("network", "bridge") and name):
        return text
    raise ValueError(_("Choose a network: network:NAME, bridge:NAME or none."))


def _mac(text: str) -> str:
    return mac_address(text) if text else ""


Name = Annotated[str, AfterValidator(_name)]
Path = Annotated[str, Field(max_length=4096), AfterValidator(_path)]


class Wish(BaseModel):
    """Either libvirt's XML, or the wizard's fields."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    xml: Annotated[
        str, Field(title="XML", description="A whole <domain>; the fields below are not used then.")
    ] = ""
    name: Annotated[Name, Field(title="Name")] = ""
    title: Annotated[str, Field(title="Title", max_length=500)] = ""
    source: Annotated[
        Source | None,
        Field(
            title="Operating system from",
            description="iso: an ISO image; import: an existing disk; pxe: the network; blank: "
            "nothing yet; tiny: the tiny Linux that comes with the site.",
        ),
    ] = None
    iso: Annotated[Path, Field(title="ISO image", description="Its path on the host.")] = ""
    disk_path: Annotated[
        Path, Field(title="Existing disk", description="Path of an image on the host.")
    ] = ""
    disk_gib: Annotated[
        int, Field(title="New disk (GiB)", description="0: none.", ge=0, le=1024 * 1024)
    ] = 0
    pool: Annotated[
        str,
        Field(title="Storage pool", description="Where the new disk goes; empty: the default one."),
    ] = ""
    memory_mib: Annotated[int, Field(title="Memory (MiB)", ge=16, le=64 * 1024 * 1024)] = 1024
    vcpus: Annotated[int, Field(title="CPUs", ge=1, le=8192)] = 1
    network: Annotated[
        str,
        AfterValidator(_network),
        Field(
            title="Network",
            max_length=255,
            description="network:NAME, bridge:NAME or none; empty: the default network if it is "
            "active, else none.",
        ),
    ] = ""
    mac: Annotated[
        str,
        AfterValidator(_mac),
        Field(title="MAC address", description="Unique over all hosts; empty: a free one."),
    ] = ""
    start_network: Annotated[bool, Field(title="Start the network where it is not active")] = False
    firmware: Annotated[Firmware, Field(title="Firmware")] = Firmware.BIOS
    start: Annotated[bool, Field(title="Start after creation")] = False
