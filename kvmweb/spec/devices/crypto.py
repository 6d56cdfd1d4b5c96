from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Crypto(Device):
    tag = "crypto"
    icon = "lock"
    noun = "Crypto device"
    is_numbered = True
    model = Field("@model", "Model")
    type = Field("@type", "Type")
    backend = Field("backend/@model", "Backend")
    queues = Field("backend/@queues", "Queues")
