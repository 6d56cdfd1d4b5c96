from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Number

_NOUNS = {"pci": "PCI", "usb": "USB", "scsi": "SCSI", "mdev": "MDEV", "scsi_host": "SCSI host"}


class HostDevice(Device):
    tag = "hostdev"
    icon = "cpu-2"
    mode = Field("@mode")
    type = Field("@type", "Type")
    managed = Field("@managed", "Managed by libvirt")
    vendor = Field("source/vendor/@id", "Vendor")
    product = Field("source/product/@id", "Product")
    uuid = Field("source/address/@uuid", "Mediated device")
    adapter = Field("source/adapter/@name", "Adapter")
    rom_bar = Field("rom/@bar", "ROM BAR")
    driver = Field("driver/@name", "Driver")
    boot_order = Number("boot/@order", "Boot order")

    @property
    def address(self) -> str:
        """As ``lspci`` and ``lsusb`` print it."""
        found = self.tree.find("source/address")
        if found is None:
            return ""
        if self.type == "pci":
            domain, bus, slot, function = (
                found.get(name, "0x0").removeprefix("0x")
                for name in ("domain", "bus", "slot", "function")
            )
            return f"{domain.zfill(4)}:{bus.zfill(2)}:{slot.zfill(2)}.{function}"
        if self.type == "usb":
            return f"{found.get('bus', '').zfill(3)}:{found.get('device', '').zfill(3)}"
        return ""

    @property
    def kind(self) -> str:
        named = self.address or ":".join(
            text.removeprefix("0x") for text in (self.vendor, self.product) if text
        )
        return f"{_NOUNS.get(self.type, self.type)} {named or self.uuid or 'host device'}".strip()

    def facts(self) -> list[tuple[str, str]]:
        return ([("Host address", self.address)] if self.address else []) + super().facts()
