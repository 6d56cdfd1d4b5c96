from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Panic(Device):
    tag = "panic"
    icon = "alert-triangle"
    noun = "Panic Notifier"
    model = Field("@model", "Model")
