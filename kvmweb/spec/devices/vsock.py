from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Vsock(Device):
    tag = "vsock"
    icon = "plug"
    noun = "VirtIO VSOCK"
    model = Field("@model", "Model")
    is_automatic = Field("cid/@auto", "Automatic CID")
    cid = Field("cid/@address", "CID")
