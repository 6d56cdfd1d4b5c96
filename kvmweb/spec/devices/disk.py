from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Flag, Number, parse

_BUSES = {
    "virtio": "VirtIO",
    "sata": "SATA",
    "ide": "IDE",
    "scsi": "SCSI",
    "usb": "USB",
    "fdc": "Floppy",
    "xen": "Xen",
    "sd": "SD",
    "nvme": "NVMe",
}
_NOUNS = {"cdrom": "CDROM", "disk": "Disk", "lun": "LUN", "floppy": "Floppy"}
# Where each type of source says what it is: formatdomain.html#hard-drives-floppy-disks-cdroms.
_SOURCES = ("file", "dev", "dir", "volume", "name", "path")


class Disk(Device):
    tag = "disk"
    is_numbered = True
    type = Field("@type")
    device = Field("@device")
    source_format = Field("driver/@type", "Format")
    bus = Field("target/@bus", "Bus")
    target = Field("target/@dev", "Target")
    file = Field("source/@file")
    block = Field("source/@dev")
    pool = Field("source/@pool", "Pool")
    protocol = Field("source/@protocol", "Protocol")
    host = Field("source/host/@name", "Server")
    backing = Field("backingStore/source/@file", "Backing file")
    driver = Field("driver/@name")
    cache = Field("driver/@cache", "Cache")
    io = Field("driver/@io", "I/O mode")
    discard = Field("driver/@discard", "Discard")
    detect_zeroes = Field("driver/@detect_zeroes", "Detect zeroes")
    serial = Field("serial", "Serial number")
    boot_order = Number("boot/@order", "Boot order")
    is_read_only = Flag("readonly", "Read-only")
    is_shareable = Flag("shareable", "Shareable")
    is_encrypted = Flag("encryption", "Encrypted")

    @property
    def icon(self) -> str:  # type: ignore[override]
        icon = "database"
        if self.device == "cdrom":
            icon = "disc"
        elif self.device == "floppy":
            icon = "device-floppy"
        return icon

    @property
    def kind(self) -> str:
        noun = _NOUNS.get(self.device or "disk", self.device.title())
        if self.device == "floppy":
            return noun
        return f"{_BUSES.get(self.bus, self.bus.title())} {noun}".strip()

    @property
    def source(self) -> str:
        """The path, or the name on its server; empty for an empty drive."""
        source = self.tree.find("source")
        names = [source.get(name) for name in _SOURCES] if source is not None else []
        return next((name for name in names if name), "")

    def facts(self) -> list[tuple[str, str]]:
        is_removable = self.device in ("cdrom", "floppy")
        shown = self.source or ("No media" if is_removable else "None")
        return [("Source", shown), *super().facts()]


def disks(xml: str) -> list[Disk]:
    """Every disk and drive of a domain document. Raises ``XmlError``."""
    return [Disk(tree) for tree in parse(xml).iterfind("devices/disk")]
