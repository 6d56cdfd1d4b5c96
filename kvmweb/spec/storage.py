"""The documents of storage pools and volumes: https://libvirt.org/formatstorage.html."""

from dataclasses import dataclass
from uuid import UUID

from kvmweb.spec.xml import Element, Field, Size, parse


class Pool(Element):
    type = Field("@type")
    name = Field("name")
    uuid = Field("uuid")
    capacity_bytes = Size("capacity", default="bytes")
    allocation_bytes = Size("allocation", default="bytes")
    available_bytes = Size("available", default="bytes")
    target_path = Field("target/path")


class Volume(Element):
    type = Field("@type")
    name = Field("name")
    path = Field("target/path")
    format = Field("target/format/@type")
    mode = Field("target/permissions/mode")
    capacity_bytes = Size("capacity", default="bytes")
    allocation_bytes = Size("allocation", default="bytes")
    backing_path = Field("backingStore/path")
    backing_format = Field("backingStore/format/@type")


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the mirror keeps in columns of ``models.Pool``."""

    name: str
    uuid: UUID
    type: str
    target_path: str
    capacity_bytes: int
    allocation_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """What the mirror keeps in columns of ``models.Volume``."""

    name: str
    path: str
    format: str
    capacity_bytes: int
    allocation_bytes: int


def pool_facts(xml: str) -> PoolFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    pool = Pool(parse(xml))
    return PoolFacts(
        name=pool.name,
        uuid=UUID(pool.uuid),
        type=pool.type,
        target_path=pool.target_path,
        capacity_bytes=pool.capacity_bytes,
        allocation_bytes=pool.allocation_bytes,
        available_bytes=pool.available_bytes,
    )


def volume_facts(xml: str) -> VolumeFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    volume = Volume(parse(xml))
    return VolumeFacts(
        name=volume.name,
        path=volume.path,
        format=volume.format,
        capacity_bytes=volume.capacity_bytes,
        allocation_bytes=volume.allocation_bytes,
    )
