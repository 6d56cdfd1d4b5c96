from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Number

_NOUNS = {"virtio": "Virtio", "qxl": "QXL", "vga": "VGA", "cirrus": "Cirrus", "bochs": "Bochs"}


class Video(Device):
    tag = "video"
    icon = "photo"
    model = Field("model/@type", "Model")
    heads = Number("model/@heads", "Heads")
    vram = Field("model/@vram", "Video memory (KiB)")
    is_primary = Field("model/@primary", "Primary")
    is_accelerated = Field("model/acceleration/@accel3d", "3D acceleration")

    @property
    def kind(self) -> str:
        return f"Video {_NOUNS.get(self.model, self.model)}".strip()
