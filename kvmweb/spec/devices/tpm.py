from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Tpm(Device):
    tag = "tpm"
    icon = "shield-lock"
    model = Field("@model", "Model")
    type = Field("backend/@type", "Backend")
    version = Field("backend/@version", "Version")
    path = Field("backend/device/@path", "Host device")

    @property
    def kind(self) -> str:
        return f"TPM v{self.version}" if self.version else "TPM"
