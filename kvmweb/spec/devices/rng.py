from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Rng(Device):
    tag = "rng"
    icon = "dice"
    model = Field("@model", "Model")
    backend_model = Field("backend/@model", "Backend")
    backend = Field("backend", "Host device")
    rate_bytes = Field("rate/@bytes", "Rate (bytes)")

    @property
    def kind(self) -> str:
        return f"RNG {self.backend or self.backend_model}".strip()
