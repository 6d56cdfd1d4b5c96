"""A new machine from a person's choices: its document, and the command that makes the same.

The defaults are virt-manager's (``virtinst/guest.py``).
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count

from lxml import etree

from kvmweb.spec.capabilities import DomainCapabilities
from kvmweb.spec.devices.channel import Channel
from kvmweb.spec.devices.character import Character
from kvmweb.spec.devices.controller import Controller
from kvmweb.spec.devices.disk import Disk
from kvmweb.spec.devices.graphics import Graphics
from kvmweb.spec.devices.input import Input
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.devices.memballoon import Balloon
from kvmweb.spec.devices.rng import Rng
from kvmweb.spec.devices.tpm import Tpm
from kvmweb.spec.devices.video import Video
from kvmweb.spec.domain import Domain
from kvmweb.spec.xml import Element, Tree, text_of

# So many devices can be added while it runs: each takes a PCIe port of its own.
ROOT_PORTS = 14
GUEST_AGENT = "org.qemu.guest_agent.0"


class Source(StrEnum):
    """Where the operating system comes from."""

    ISO = "iso"
    IMPORT = "import"
    PXE = "pxe"
    BLANK = "blank"
    TINY = "tiny"


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"
    UEFI_SECURE = "uefi-secure"


@dataclass(frozen=True, kw_only=True)
class DiskChoice:
    """``create_gib``: make it anew with this size. Otherwise it is there already."""

    path: str
    format: str = "qcow2"
    create_gib: int = 0
    is_block: bool = False


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Everything the person chose, with paths as the host knows them.

    ``network``: ``network:default``, ``bridge:br0`` or ``none``. ``vnc_listens_on``: an address, or
    ``socket``.
    """

    name: str
    source: Source
    capabilities: DomainCapabilities
    memory_mib: int
    vcpus: int
    uri: str = "qemu:///system"
    uuid: str = ""
    title: str = ""
    iso: str = ""
    disk: DiskChoice | None = None
    kernel: str = ""
    initrd: str = ""
    kernel_line: str = ""
    network: str = "network:default"
    mac: str = ""
    firmware: Firmware = Firmware.BIOS
    # A Unix socket leaves no door on TCP to other users of the host.
    vnc_listens_on: str = "socket"
    start: bool = field(default=False, compare=False)

    @property
    def virtualization(self) -> str:
        return self.capabilities.virtualization

    @property
    def machine(self) -> str:
        """Without a version: libvirt then takes the newest and keeps to it."""
        return "q35" if self.capabilities.is_pc else "virt"

    @property
    def cpu_mode(self) -> str:
        wanted = (
            ("host-passthrough", "host-model") if self.virtualization == "kvm" else ("maximum",)
        )
        return next((mode for mode in wanted if mode in self.capabilities.cpu_modes), "")

    @property
    def is_real(self) -> bool:
        """The test driver takes no machine type, CPU or firmware."""
        return self.virtualization != "test"

    @property
    def has_cdrom(self) -> bool:
        return self.source in (Source.ISO, Source.BLANK)

    @property
    def cdrom_bus(self) -> str:
        return "sata" if self.capabilities.is_pc else "scsi"

    @property
    def video(self) -> str:
        # The tiny guest's kernel knows the VGA text console and nothing else.
        wanted = ("vga", "virtio") if self.source == Source.TINY else ("virtio", "vga")
        models = self.capabilities.video_models
        return next((model for model in wanted if model in models), wanted[0])

    @property
    def boot(self) -> tuple[str, ...]:
        """Empty for direct kernel boot.

        The disk comes first: while it is empty the firmware goes on to the medium that installs,
        and once it is installed nobody has to change the order.
        """
        if self.source == Source.TINY:
            return ()
        if self.source == Source.PXE:
            is_new = self.disk is not None and self.disk.create_gib > 0
            return ("hd", "network") if is_new else (*self._network_first(),)
        return (*(("hd",) if self.disk else ()), *(("cdrom",) if self.has_cdrom else ()))

    def _network_first(self) -> Iterator[str]:
        yield "network"
        if self.disk:
            yield "hd"

    @property
    def network_kind(self) -> str:
        return self.network.partition(":")[0]

    @property
    def network_name(self) -> str:
        return self.network.partition(":")[2]

    @property
    def has_tpm(self) -> bool:
        return self.firmware != Firmware.BIOS and "emulator" in self.capabilities.tpm_backends


def build(choices: Choices) -> Tree:
    """The document of the new machine."""
    domain = Domain.new("domain", type=choices.virtualization, name=choices.name)
    domain.uuid = choices.uuid
    domain.title = choices.title
    domain.memory_bytes = choices.memory_mib * 2**20
    domain.current_memory_bytes = choices.memory_mib * 2**20
    domain.vcpus_maximum = choices.vcpus
    _add_boot(domain, choices)
    if choices.is_real:
        _add_platform(domain, choices)
    devices = etree.SubElement(domain.tree, "devices")
    devices.extend(device.tree for device in _devices(choices))
    return domain.tree


def document(choices: Choices) -> str:
    return text_of(build(choices))


def _add_boot(domain: Domain, choices: Choices) -> None:
    domain.os_type = "hvm"
    domain.architecture = choices.capabilities.architecture
    if choices.is_real:
        domain.machine = choices.machine
    system = domain.tree.find("os")
    assert system is not None
    if choices.is_real and choices.firmware != Firmware.BIOS:
        _add_firmware(domain, system, is_secure=choices.firmware == Firmware.UEFI_SECURE)
    domain.kernel, domain.initrd = choices.kernel, choices.initrd
    domain.kernel_line = choices.kernel_line
    for device in choices.boot:
        etree.SubElement(system, "boot", dev=device)


def _add_firmware(domain: Domain, system: Tree, *, is_secure: bool) -> None:
    # Without saying no, libvirt may take an image that starts only what Microsoft has signed.
    domain.firmware = "efi"
    features = etree.SubElement(system, "firmware")
    enabled = "yes" if is_secure else "no"
    for name in ("enrolled-keys", "secure-boot") if is_secure else ("secure-boot",):
        etree.SubElement(features, "feature", enabled=enabled, name=name)


def _add_platform(domain: Domain, choices: Choices) -> None:
    features = etree.SubElement(domain.tree, "features")
    if choices.capabilities.is_pc:
        etree.SubElement(features, "acpi")
        etree.SubElement(features, "apic")
    if choices.cpu_mode:
        domain.cpu_mode = choices.cpu_mode
    clock = etree.SubElement(domain.tree, "clock", offset="utc")
    if choices.capabilities.is_pc:
        # https://libvirt.org/formatdomain.html#time-keeping; what every Linux and Windows likes.
        etree.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
        etree.SubElement(clock, "timer", name="pit", tickpolicy="delay")
        etree.SubElement(clock, "timer", name="hpet", present="no")
        power = etree.SubElement(domain.tree, "pm")
        etree.SubElement(power, "suspend-to-mem", enabled="no")
        etree.SubElement(power, "suspend-to-disk", enabled="no")


def _devices(choices: Choices) -> Iterator[Element]:
    if choices.disk:
        yield _disk(choices.disk)
    if choices.has_cdrom:
        yield _cdrom(choices)
    if choices.is_real:
        yield from _controllers(choices)
    if choices.network_kind != "none":
        yield _interface(choices)
    yield Character.new("serial", type="pty")
    yield Character.new("console", type="pty", target_type="serial")
    if choices.is_real:
        yield Channel.new("channel", type="unix", target_type="virtio", target_name=GUEST_AGENT)
    yield Input.new("input", type="tablet", bus="usb")
    if not choices.capabilities.is_pc:
        yield Input.new("input", type="keyboard", bus="usb")
    if choices.has_tpm:
        yield Tpm.new("tpm", model="tpm-crb", type="emulator", version="2.0")
    yield _graphics(choices)
    yield Video.new("video", model=choices.video)
    yield Balloon.new("memballoon", model="virtio")
    if choices.is_real:
        yield Rng.new("rng", model="virtio", backend="/dev/urandom", backend_model="random")


def _disk(disk: DiskChoice) -> Disk:
    made = Disk.new("disk", type="block" if disk.is_block else "file", device="disk")
    made.driver, made.source_format = "qemu", disk.format
    made.discard = "unmap"
    if disk.is_block:
        made.block = disk.path
    else:
        made.file = disk.path
    made.target, made.bus = "vda", "virtio"
    return made


def _cdrom(choices: Choices) -> Disk:
    made = Disk.new("disk", type="file", device="cdrom", driver="qemu", source_format="raw")
    made.file = choices.iso
    made.target, made.bus = "sda", choices.cdrom_bus
    made.is_read_only = True
    return made


def _controllers(choices: Choices) -> Iterator[Controller]:
    yield Controller.new("controller", type="usb", model="qemu-xhci", ports=15)
    if not choices.capabilities.is_pc and choices.has_cdrom:
        yield Controller.new("controller", type="scsi", model="virtio-scsi")
    yield Controller.new("controller", type="pci", model="pcie-root")
    for _ in range(ROOT_PORTS):
        yield Controller.new("controller", type="pci", model="pcie-root-port")


def _interface(choices: Choices) -> Interface:
    made = Interface.new("interface", type=choices.network_kind)
    made.mac = choices.mac
    if choices.network_kind == "bridge":
        made.bridge = choices.network_name
    else:
        made.network = choices.network_name
    made.model = "virtio"
    return made


def _graphics(choices: Choices) -> Graphics:
    if choices.vnc_listens_on == "socket":
        return Graphics.new("graphics", type="vnc", listen_type="socket")
    made = Graphics.new("graphics", type="vnc", port="-1", is_autoport="yes")
    made.listen_type, made.address = "address", choices.vnc_listens_on
    return made


def virt_install_command(choices: Choices) -> list[str]:
    """The command that makes the same machine, disk included; checked with virt-install 4.1."""
    words = ["virt-install", "--connect", choices.uri, "--name", choices.name]
    for option, value in _options(choices):
        words += [f"--{option}", value] if value else [f"--{option}"]
    return words


def _options(choices: Choices) -> Iterator[tuple[str, str]]:
    if choices.title:
        yield "metadata", f"title={_quoted(choices.title)}"
    yield "virt-type", choices.virtualization
    yield "osinfo", "detect=off,require=off"
    yield "memory", str(choices.memory_mib)
    yield "vcpus", str(choices.vcpus)
    if choices.cpu_mode:
        # By itself "maximum" would be taken for a model's name.
        yield "cpu", f"mode={choices.cpu_mode}"
    yield "machine", choices.machine
    yield from _boot_options(choices)
    yield from _disk_options(choices)
    kind, name = choices.network_kind, _quoted(choices.network_name)
    mac = f",mac={choices.mac}" if choices.mac else ""
    yield "network", "none" if kind == "none" else f"{kind}={name},model=virtio{mac}"
    yield "graphics", f"vnc,listen={choices.vnc_listens_on}"
    yield "video", choices.video
    yield "sound", "none"
    yield "channel", f"unix,target.type=virtio,target.name={GUEST_AGENT}"
    yield "input", "tablet,bus=usb"
    yield "controller", "usb,model=qemu-xhci"
    yield "xml", './devices/controller[@type="usb"]/@ports=15'
    yield "tpm", "emulator,model=tpm-crb,version=2.0" if choices.has_tpm else "none"
    yield "rng", "/dev/urandom"
    yield "memballoon", "virtio"
    yield "import", ""
    yield "noautoconsole", ""
    if not choices.start:
        yield "noreboot", ""


def _boot_options(choices: Choices) -> Iterator[tuple[str, str]]:
    words = list(choices.boot)
    if choices.firmware != Firmware.BIOS:
        is_secure = choices.firmware == Firmware.UEFI_SECURE
        words.append("firmware=efi")
        names = ("enrolled-keys", "secure-boot") if is_secure else ("secure-boot",)
        for number, name in enumerate(names):
            words.append(f"firmware.feature{number}.name={name}")
            words.append(f"firmware.feature{number}.enabled={'yes' if is_secure else 'no'}")
    if choices.kernel:
        words.append(f"kernel={_quoted(choices.kernel)}")
        words.append(f"initrd={_quoted(choices.initrd)}")
        words.append(f"kernel_args={_quoted(choices.kernel_line)}")
    if words:
        yield "boot", ",".join(words)


def _disk_options(choices: Choices) -> Iterator[tuple[str, str]]:
    disk = choices.disk
    if disk:
        size = f"size={disk.create_gib}," if disk.create_gib else ""
        path = _quoted(disk.path)
        yield "disk", f"path={path},{size}format={disk.format},bus=virtio,driver.discard=unmap"
    if choices.has_cdrom:
        path = f"path={_quoted(choices.iso)}," if choices.iso else ""
        yield "disk", f"{path}device=cdrom,bus={choices.cdrom_bus}"
    if not disk and not choices.has_cdrom:
        yield "disk", "none"


def _quoted(text: str) -> str:
    """virt-install splits an option's value at commas, with the shell's rules for quoting.

    Not ``shlex.quote``: to a shell a comma is a letter.
    """
    if not set(text) & set(",'\"\\"):
        return text
    if not set(text) & set('"\\'):
        return f'"{text}"'
    return "'" + text.replace("'", "'\"'\"'") + "'"


def volume_name(machine: str, *, taken: Container[str], suffix: str = "qcow2") -> str:
    """A free name for the disk of a machine of this name.

    Without blanks and signs, which libvirt would take but virt-install and people's scripts do not.
    """
    stem = re.sub(r"[^\w.+-]+", "-", machine).strip("-.") or "machine"
    # File systems count bytes, at most 255 of them, and the number needs its place too.
    stem = stem.encode()[:200].decode(errors="ignore")
    ending = f".{suffix}" if suffix else ""
    numbered = (f"{stem}-{number}{ending}" for number in count(1))
    return next(name for name in chain([stem + ending], numbered) if name not in taken)
