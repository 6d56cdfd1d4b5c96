from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Smartcard(Device):
    tag = "smartcard"
    icon = "id"
    noun = "Smartcard"
    mode = Field("@mode", "Mode")
    type = Field("@type", "Type")
