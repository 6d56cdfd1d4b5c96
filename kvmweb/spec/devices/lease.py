from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Lease(Device):
    tag = "lease"
    icon = "key"
    key = Field("key", "Key")
    lockspace = Field("lockspace", "Lock space")
    path = Field("target/@path", "File")

    @property
    def kind(self) -> str:
        return f"Lease {self.key}".strip()
