from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Audio(Device):
    tag = "audio"
    icon = "headphones"
    id = Field("@id", "Number")
    type = Field("@type", "Backend")

    @property
    def kind(self) -> str:
        return f"Audio {self.type}".strip()
