from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Flag

_SOURCES = ("dir", "file", "dev", "name", "socket", "pool", "usage")


class Filesystem(Device):
    tag = "filesystem"
    icon = "folder-share"
    type = Field("@type", "Type")
    driver = Field("driver/@type", "Driver")
    access_mode = Field("@accessmode", "Access mode")
    target = Field("target/@dir", "Target")
    is_read_only = Flag("readonly", "Read-only")

    @property
    def kind(self) -> str:
        return f"Filesystem {self.target}".strip()

    def facts(self) -> list[tuple[str, str]]:
        source = self.tree.find("source")
        names = [source.get(name) for name in _SOURCES] if source is not None else []
        return [("Source", name) for name in names if name] + super().facts()
