from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Size


class SharedMemory(Device):
    tag = "shmem"
    icon = "share"
    name = Field("@name", "Name")
    model = Field("model/@type", "Model")
    role = Field("@role", "Role")
    size = Size("size", "Size", default="bytes")
    server = Field("server/@path", "Server")

    @property
    def kind(self) -> str:
        return f"Shared memory {self.name}".strip()
