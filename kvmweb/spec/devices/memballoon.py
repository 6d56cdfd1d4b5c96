from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Balloon(Device):
    tag = "memballoon"
    icon = "balloon"
    noun = "Memory balloon"
    model = Field("@model", "Model")
    is_deflating = Field("@autodeflate", "Deflates when memory runs out")
    is_reporting = Field("@freePageReporting", "Reports free pages")
    period = Field("stats/@period", "Statistics every (seconds)")
