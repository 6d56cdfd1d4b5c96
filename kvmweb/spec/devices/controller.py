from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Number

_NOUNS = {
    "usb": "USB",
    "pci": "PCI",
    "scsi": "SCSI",
    "ide": "IDE",
    "sata": "SATA",
    "fdc": "Floppy",
    "virtio-serial": "VirtIO Serial",
    "xenbus": "XenBus",
    "isa": "ISA",
    "ccid": "CCID",
}


class Controller(Device):
    tag = "controller"
    icon = "plug-connected"
    type = Field("@type", "Type")
    model = Field("@model", "Model")
    index = Field("@index", "Index")
    ports = Number("@ports", "Ports")
    vectors = Number("@vectors", "Vectors")
    queues = Number("driver/@queues", "Queues")

    @property
    def kind(self) -> str:
        return f"Controller {_NOUNS.get(self.type, self.type)} {self.index}".strip()
