from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Nvram(Device):
    """The NVRAM device of pSeries machines; UEFI's variable store is in ``<os>``."""

    tag = "nvram"
    icon = "device-sd-card"
    noun = "NVRAM"
    address = Field("address/@reg", "Address")
