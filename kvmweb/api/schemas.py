"""The documents of /api/v1, as OpenAPI shows them, read from the models by attribute.

An alias names the column where it is called differently; ``columns`` lists them all, so that a
list never loads more than it shows.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from kvmweb.models import Acceleration, HostState, JobState, Level, Privilege, Role, State
from kvmweb.spec.network import NetworkDocument

Row = TypeVar("Row")
UUID_EXAMPLE = "9e3f5c1a-6d0b-4f5e-8a58-1f2f3c4d5e6f"
# What the views add, for which there is no column.
_ADDED = ("operations", "target")
Activity = Literal["active", "inactive"]
IsActive = Annotated[
    Activity, BeforeValidator(lambda is_active: "active" if is_active else "inactive")
]
HostName = Annotated[
    str,
    Field(validation_alias=AliasPath("host", "name"), description="The host.", examples=["local"]),
]
LibvirtUuid = Annotated[UUID, Field(description="libvirt's UUID.", examples=[UUID_EXAMPLE])]


class Document(BaseModel):
    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


class Page(BaseModel, Generic[Row]):
    items: list[Row]
    next: str | None = Field(description="Send it as `cursor` for the next page; null at the end.")


class Problem(BaseModel):
    """RFC 9457, as application/problem+json."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(description="For the person.", examples=["Some values need another look."])
    fields: dict[str, str] | None = Field(
        None,
        description="A sentence for every argument that is wrong.",
        examples=[{"name": "This is needed."}],
    )


class Index(BaseModel):
    """What is here."""

    name: str
    version: str
    openapi: str = Field(description="Where all of this is described.")
    lists: dict[str, str] = Field(examples=[{"machines": "/api/v1/machines"}])


class Me(BaseModel):
    username: str
    role: Role
    privileges: list[Privilege] = Field(examples=[["see", "operate"]])
    token: str | None = Field(description="The name of the API token used; null for a session.")


class Host(Document):
    name: str = Field(examples=["local"])
    uri: str = Field(examples=["qemu:///system"])
    state: HostState
    state_reason: str = Field(description="Why it is not connected, as a sentence.")
    hostname: str
    driver: str = Field(examples=["QEMU"])
    driver_version: str
    libvirt_version: str = Field(examples=["9.0.0"])
    architecture: str = Field(examples=["x86_64"])
    cpu_model: str
    cpus: int
    memory_kib: int
    acceleration: Acceleration
    usage: dict[str, Any] = Field(examples=[{"cpu_percent": 12.5, "memory_used_kib": 812345}])
    mirrored: datetime | None = Field(description="When everything was last read from it.")


class Hosts(Page[Host]):
    pass


class HostDetails(Host):
    state_since: datetime
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
    )


class Machine(Document):
    uuid: LibvirtUuid
    name: str = Field(examples=["web1"])
    state: State = Field(description="In virsh's words.")
    host: HostName
    title: str
    vcpus: int
    memory_kib: int
    autostart: bool = Field(validation_alias="is_autostart")
    persistent: bool = Field(validation_alias="is_persistent")
    virtualization: str = Field(description="kvm, qemu, ...", examples=["kvm"])
    graphics: str = Field(description="vnc, spice; empty where there is none.", examples=["vnc"])
    changed: datetime


class Machines(Page[Machine]):
    pass


class MachineDetails(Machine):
    description: str
    managed_save: bool = Field(validation_alias="has_managed_save")
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
        examples=[{"start": "The machine is running.", "shut_down": None}],
    )


class Fact(BaseModel):
    label: str = Field(examples=["Bus"])
    value: str = Field(examples=["virtio"])


class Part(BaseModel):
    """A device, or a section such as the processors."""

    label: str = Field(examples=["Disk 1"])
    facts: list[Fact]
    xml: str


class Hardware(BaseModel):
    items: list[Part]


class ConsoleRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    level: Level = Field(Level.CONTROL, description="view: keys and pointer are dropped.")


class ConsoleTicket(BaseModel):
    """Open a websocket at ``path`` with these subprotocols, once, before it expires."""

    path: str = Field(examples=["/websockify"])
    protocols: list[str] = Field(examples=[["binary", "ticket.dGhpcyBpcyBhIHNlY3JldA"]])
    expires: datetime


class Network(Document):
    uuid: LibvirtUuid
    name: str = Field(examples=["default"])
    state: IsActive = Field(validation_alias="is_active")
    host: HostName
    autostart: bool = Field(validation_alias="is_autostart")
    persistent: bool = Field(validation_alias="is_persistent")
    forward_mode: str = Field(description="nat, route, ...; empty: isolated.", examples=["nat"])
    bridge: str = Field(examples=["virbr0"])


class Networks(Page[Network]):
    pass


class NetworkDetails(Network):
    waiting: Annotated[bool, BeforeValidator(bool)] = Field(
        validation_alias="inactive_xml",
        description="Whether changes wait for the network's next start.",
    )
    version: str = Field(description="Of its definition; `edit` refuses to overwrite a newer one.")
    document: NetworkDocument | None = Field(
        None, description="Its definition as fields; null where they can't say all that is in it."
    )
    machines: list[str] = Field(default_factory=list, examples=[["web1"]])
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
    )


class Lease(BaseModel):
    address: str = Field(examples=["192.168.100.128"])
    prefix: int
    mac: str = Field(examples=["52:54:00:12:34:56"])
    name: str = Field(description="What the guest calls itself.")
    expires: int = Field(description="In seconds since 1970; 0: never.")
    iaid: str
    client: str = Field(description="The client's identifier.")
    machine: str | None = Field(description="Whose NIC has this MAC address.")


class Leases(BaseModel):
    items: list[Lease]


class PortForward(BaseModel):
    protocol: Literal["tcp", "udp"]
    address: str | None = Field(description="null: each address of the host.")
    port: int
    to: str = Field(examples=["192.168.100.10"])
    to_port: int
    comment: str


class Forwards(BaseModel):
    items: list[PortForward]


class Filter(Document):
    uuid: LibvirtUuid
    name: str = Field(examples=["clean-traffic"])
    host: HostName
    chain: str = Field(examples=["root"])
    references: list[str] = Field(description="Filters whose rules are its own too.")


class Filters(Page[Filter]):
    pass


class FilterUser(BaseModel):
    """A NIC of a machine, or another filter."""

    machine: str = ""
    mac: str = ""
    filter: str = ""


class FilterDetails(Filter):
    version: str = Field(description="Of its document; send it along to overwrite no newer one.")
    entries: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Rules, and references to other filters, in the document's order.",
    )
    variables: list[str] = Field(
        default_factory=list, description="What a NIC that uses it may give a value to."
    )
    used_by: list[FilterUser] = Field(default_factory=list)
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
    )


class SecurityGroup(Document):
    name: str = Field(examples=["web"])
    description: str
    rules: list[dict[str, Any]] = Field(
        description="What is allowed; all else is dropped.",
        examples=[[{"direction": "in", "protocol": "tcp", "ports": "80, 443"}]],
    )
    version: int = Field(description="Send it along to overwrite no newer one.")


class SecurityGroups(Page[SecurityGroup]):
    pass


class GroupNic(BaseModel):
    machine: UUID
    machine_name: str
    host: str
    mac: str
    addresses: list[str]


class SecurityGroupDetails(SecurityGroup):
    nics: list[GroupNic] = Field(default_factory=list)
    operations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why each operation would be refused now; null where it would not.",
    )


class NicAddress(BaseModel):
    address: str = Field(examples=["192.168.122.23"])
    prefix: int = Field(description="0 where it is not known.", examples=[24])
    source: Literal["agent", "lease", "arp"] = Field(
        validation_alias="from", description="Who knows: the guest's agent, a DHCP server, ARP."
    )


class Nic(Document):
    mac: str = Field(examples=["52:54:00:12:34:56"])
    kind: str = Field(description="libvirt's type of interface.", examples=["network"])
    source: str = Field(description="The network, bridge or device.", examples=["default"])
    model: str = Field(examples=["virtio"])
    host_interface: str = Field(
        validation_alias="tap", description="While it runs.", examples=["vnet0"]
    )
    bridge: str = Field(description="Where that is plugged in, if known.", examples=["virbr0"])
    filter: str = Field(description="A network filter; empty: none.")
    vlans: list[int]
    link_up: bool = Field(validation_alias="is_link_up")
    current: bool = Field(validation_alias="is_current", description="In the machine as it runs.")
    kept: bool = Field(validation_alias="is_kept", description="In the one of the next start.")
    addresses: list[NicAddress] = Field(description="Seen with these.")


class Nics(BaseModel):
    items: list[Nic]


class Waiting(BaseModel):
    """What differs between the running machine and its next start."""

    setting: str = Field(examples=["mtu"])
    now: Any = None
    next: Any = None


class NicDetails(Nic):
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="As the next start has them; PATCH takes the same names.",
        examples=[{"source": "network:default", "mtu": 1400}],
    )
    waiting: list[Waiting] = Field(default_factory=list)


class Pool(Document):
    uuid: LibvirtUuid
    name: str = Field(examples=["default"])
    state: IsActive = Field(validation_alias="is_active")
    host: HostName
    type: str = Field(examples=["dir"])
    autostart: bool = Field(validation_alias="is_autostart")
    persistent: bool = Field(validation_alias="is_persistent")
    target_path: str = Field(examples=["/var/lib/libvirt/images"])
    capacity_bytes: int
    allocation_bytes: int
    available_bytes: int


class Pools(Page[Pool]):
    pass


class Volume(Document):
    name: str = Field(examples=["web1.qcow2"])
    path: str = Field(examples=["/var/lib/libvirt/images/web1.qcow2"])
    format: str = Field(description="raw, qcow2, iso, ...", examples=["qcow2"])
    capacity_bytes: int
    allocation_bytes: int


class Volumes(Page[Volume]):
    pass


class Device(Document):
    name: str = Field(examples=["pci_0000_00_02_0"])
    parent: str = Field(examples=["computer"])
    capability: str = Field(description="pci, usb_device, net, ...", examples=["pci"])


class Devices(Page[Device]):
    pass


class Target(BaseModel):
    """What a job is about."""

    type: str = Field(description="machine, host, ...", examples=["machine"])
    id: str = Field(description="libvirt's UUID; a host's number.", examples=[UUID_EXAMPLE])
    name: str = Field(examples=["web1"])


class Job(Document):
    id: UUID
    operation: str = Field(validation_alias="kind", examples=["machines.start"])
    target: Target | None = None
    host: str | None = Field(None, validation_alias=AliasPath("host", "name"), examples=["local"])
    state: JobState
    percent: int | None = Field(description="null where it can't be known.")
    message: str = Field(description="The step it is in.")
    error: str = Field(description="Why it failed, as a sentence.")
    error_field: str = Field(description="The argument to blame for it, where there is one.")
    commands: list[list[str]] = Field(
        description="The command lines that do the same.", examples=[[["virsh", "start", "web1"]]]
    )
    result: dict[str, Any] = Field(examples=[{"uuid": UUID_EXAMPLE}])
    user: str = Field(validation_alias="username", examples=["alice"])
    created: datetime
    started: datetime | None
    ended: datetime | None


class Jobs(Page[Job]):
    pass


class JobDetails(Job):
    log: str


def columns(document: type[Document]) -> list[str]:
    """What the database has to give for it, in Django's names."""
    return [
        _column(name, field.validation_alias)
        for name, field in document.model_fields.items()
        if name not in _ADDED
    ]


def _column(name: str, alias: object) -> str:
    return "__".join(map(str, alias.path)) if isinstance(alias, AliasPath) else str(alias or name)
