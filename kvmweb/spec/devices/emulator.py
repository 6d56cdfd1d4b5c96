from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Emulator(Device):
    tag = "emulator"
    icon = "engine"
    noun = "Emulator"
    path = Field("", "Path")
