from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field

_NOUNS = {
    "tablet": "Tablet",
    "mouse": "Mouse",
    "keyboard": "Keyboard",
    "passthrough": "Passed-through input",
    "evdev": "Host input device",
}


class Input(Device):
    tag = "input"
    type = Field("@type", "Type")
    bus = Field("@bus", "Bus")
    model = Field("@model", "Model")
    device = Field("source/@dev", "Host device")

    @property
    def icon(self) -> str:  # type: ignore[override]
        icon = "mouse"
        if self.type == "keyboard":
            icon = "keyboard"
        return icon

    @property
    def kind(self) -> str:
        return _NOUNS.get(self.type, "Input")
