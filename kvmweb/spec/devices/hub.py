from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Hub(Device):
    tag = "hub"
    icon = "sitemap"
    is_numbered = True
    type = Field("@type", "Type")

    @property
    def kind(self) -> str:
        return f"{self.type.upper()} Hub".strip()
