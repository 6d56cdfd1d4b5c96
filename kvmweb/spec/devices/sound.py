from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Sound(Device):
    tag = "sound"
    icon = "volume"
    model = Field("@model", "Model")
    codec = Field("codec/@type", "Codec")

    @property
    def kind(self) -> str:
        return f"Sound {self.model}".strip()
