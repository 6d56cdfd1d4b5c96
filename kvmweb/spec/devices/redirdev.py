from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Redirection(Device):
    tag = "redirdev"
    icon = "usb"
    is_numbered = True
    bus = Field("@bus", "Bus")
    type = Field("@type", "Type")
    host = Field("source/@host", "Source host")

    @property
    def kind(self) -> str:
        return f"{self.bus.upper()} Redirector".strip()
