from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Size


class Memory(Device):
    tag = "memory"
    icon = "device-sd-card"
    noun = "Memory module"
    is_numbered = True
    model = Field("@model", "Model")
    size = Size("target/size", "Size")
    node = Field("target/node", "NUMA node")
    path = Field("source/path", "Source")
