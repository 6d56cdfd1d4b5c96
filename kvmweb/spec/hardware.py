"""The parts of a machine in virt-manager's order, each with what there is to say about it."""

from collections import Counter
from dataclasses import dataclass

from lxml import etree

from kvmweb.spec.devices.audio import Audio
from kvmweb.spec.devices.channel import Channel
from kvmweb.spec.devices.console import Console
from kvmweb.spec.devices.controller import Controller
from kvmweb.spec.devices.crypto import Crypto
from kvmweb.spec.devices.device import Device, Unknown
from kvmweb.spec.devices.disk import Disk
from kvmweb.spec.devices.emulator import Emulator
from kvmweb.spec.devices.filesystem import Filesystem
from kvmweb.spec.devices.graphics import Graphics
from kvmweb.spec.devices.hostdev import HostDevice
from kvmweb.spec.devices.hub import Hub
from kvmweb.spec.devices.input import Input
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.devices.iommu import Iommu
from kvmweb.spec.devices.lease import Lease
from kvmweb.spec.devices.memballoon import Balloon
from kvmweb.spec.devices.memory import Memory as MemoryModule
from kvmweb.spec.devices.nvram import Nvram
from kvmweb.spec.devices.panic import Panic
from kvmweb.spec.devices.parallel import Parallel
from kvmweb.spec.devices.pstore import PersistentStore
from kvmweb.spec.devices.redirdev import Redirection
from kvmweb.spec.devices.redirfilter import RedirectionFilter
from kvmweb.spec.devices.rng import Rng
from kvmweb.spec.devices.serial import Serial
from kvmweb.spec.devices.shmem import SharedMemory
from kvmweb.spec.devices.smartcard import Smartcard
from kvmweb.spec.devices.sound import Sound
from kvmweb.spec.devices.tpm import Tpm
from kvmweb.spec.devices.video import Video
from kvmweb.spec.devices.vsock import Vsock
from kvmweb.spec.devices.watchdog import Watchdog
from kvmweb.spec.xml import Element, Field, Flag, Size, Tree, parse

# virt-manager's order (virtManager/details: _populate_hw_list), then what it does not list.
KINDS: tuple[type[Device], ...] = (
    Disk,
    Interface,
    Input,
    Graphics,
    Sound,
    Serial,
    Parallel,
    Console,
    Channel,
    HostDevice,
    Redirection,
    Video,
    Watchdog,
    Controller,
    Filesystem,
    Smartcard,
    Tpm,
    Rng,
    Panic,
    Vsock,
    Balloon,
    MemoryModule,
    SharedMemory,
    Iommu,
    Crypto,
    Nvram,
    PersistentStore,
    Lease,
    Hub,
    RedirectionFilter,
    Audio,
    Emulator,
)
_BY_TAG = {kind.tag: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Part:
    """``icon`` is one of Tabler's names; ``facts`` are labels with their values."""

    label: str
    icon: str
    facts: list[tuple[str, str]]
    xml: str


class Overview(Element):
    name = Field("name", "Name")
    uuid = Field("uuid", "UUID")
    title = Field("title", "Title")
    description = Field("description", "Description")
    type = Field("@type", "Hypervisor")
    architecture = Field("os/type/@arch", "Architecture")
    machine = Field("os/type/@machine", "Machine type")
    emulator = Field("devices/emulator", "Emulator")
    clock = Field("clock/@offset", "Clock")


class OperatingSystem(Element):
    type = Field("os/type", "Type")
    loader = Field("os/loader", "Firmware image")
    is_secure = Field("os/loader/@secure", "Secure loader")
    nvram = Field("os/nvram", "UEFI variables")
    kernel = Field("os/kernel", "Kernel")
    initrd = Field("os/initrd", "Initial RAM disk")
    kernel_line = Field("os/cmdline", "Kernel command line")

    def facts(self) -> list[tuple[str, str]]:
        is_uefi = self.tree.find("os[@firmware='efi']") is not None or "pflash" in [
            loader.get("type") for loader in self.tree.iterfind("os/loader")
        ]
        features = [
            (str(feature.get("name", "")), "yes" if feature.get("enabled") == "yes" else "no")
            for feature in self.tree.iterfind("os/firmware/feature")
        ]
        return [("Firmware", "UEFI" if is_uefi else "BIOS"), *features, *super().facts()]


class Processors(Element):
    current = Field("vcpu/@current", "CPUs in use")
    maximum = Field("vcpu", "CPUs")
    pinning = Field("vcpu/@cpuset", "Pinned to")
    mode = Field("cpu/@mode", "Mode")
    model = Field("cpu/model", "Model")
    sockets = Field("cpu/topology/@sockets", "Sockets")
    dies = Field("cpu/topology/@dies", "Dies")
    cores = Field("cpu/topology/@cores", "Cores")
    threads = Field("cpu/topology/@threads", "Threads")


class Memory(Element):
    current = Size("currentMemory", "Memory")
    maximum = Size("memory", "Maximum")
    hotplug = Size("maxMemory", "Maximum with added modules")
    source = Field("memoryBacking/source/@type", "Source")
    access = Field("memoryBacking/access/@mode", "Access")
    is_huge = Flag("memoryBacking/hugepages", "Huge pages")


class Boot(Element):
    menu = Field("os/bootmenu/@enable", "Boot menu")

    def facts(self) -> list[tuple[str, str]]:
        devices = [boot.get("dev", "") for boot in self.tree.iterfind("os/boot")]
        ordered = sorted(
            (int(boot.get("order", "0")), device.tag)
            for device in self.tree.iterfind("devices/*")
            for boot in device.iterfind("boot")
            if boot.get("order", "").isdigit()
        )
        order = devices or [str(tag) for _, tag in ordered]
        return ([("Order", ", ".join(order))] if order else []) + super().facts()


@dataclass(frozen=True, slots=True)
class _Section:
    """``tags`` are the elements of the document it is taken from."""

    label: str
    kind: type[Element]
    icon: str
    tags: tuple[str, ...]


_SECTIONS = (
    _Section(
        "Overview",
        Overview,
        icon="server-2",
        tags=("name", "uuid", "title", "description", "metadata", "features", "clock", "pm"),
    ),
    _Section("OS information", OperatingSystem, icon="info-circle", tags=("os", "sysinfo")),
    _Section("CPUs", Processors, icon="cpu", tags=("vcpu", "vcpus", "cpu", "cputune", "iothreads")),
    _Section(
        "Memory",
        Memory,
        icon="device-sd-card",
        tags=("memory", "currentMemory", "maxMemory", "memoryBacking", "memtune", "numatune"),
    ),
    _Section(
        "Boot Options",
        Boot,
        icon="rotate-clockwise",
        tags=("os", "on_poweroff", "on_reboot", "on_crash"),
    ),
)


def hardware(xml: str) -> list[Part]:
    """Overview, OS, CPUs, memory and boot, then every device. Raises ``XmlError``."""
    root = parse(xml)
    sections = [
        Part(
            section.label,
            section.icon,
            section.kind(root).facts(),
            _print(*(root.findall(tag) for tag in section.tags)),
        )
        for section in _SECTIONS
    ]
    return sections + _devices(root)


def _devices(root: Tree) -> list[Part]:
    devices = [device_of(tree) for tree in root.iterfind("devices/*") if isinstance(tree.tag, str)]
    order = {kind: place for place, kind in enumerate(KINDS)}
    counted: Counter[str] = Counter()
    parts = []
    for device in sorted(devices, key=lambda device: order.get(type(device), len(order))):
        counted[device.kind] += 1
        label = device.label(counted[device.kind])
        parts.append(Part(label, device.icon, device.facts(), _print([device.tree])))
    return parts


def device_of(tree: Tree) -> Device:
    """The element as the class of its kind."""
    return _BY_TAG.get(str(tree.tag), Unknown)(tree)


def _print(*groups: list[Tree]) -> str:
    texts = []
    for tree in (tree for group in groups for tree in group):
        etree.indent(tree, "  ")
        texts.append(etree.tostring(tree, encoding="unicode", with_tail=False))
    return "\n".join(texts)
