from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Iommu(Device):
    tag = "iommu"
    icon = "arrows-shuffle"
    noun = "IOMMU"
    model = Field("@model", "Model")
    is_remapping = Field("driver/@intremap", "Interrupt remapping")
    is_caching = Field("driver/@caching_mode", "Caching mode")
