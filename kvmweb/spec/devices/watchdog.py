from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Watchdog(Device):
    tag = "watchdog"
    icon = "heartbeat"
    noun = "Watchdog"
    model = Field("@model", "Model")
    action = Field("@action", "Action")
