from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Size


class PersistentStore(Device):
    tag = "pstore"
    icon = "archive"
    noun = "Crash log store"
    backend = Field("@backend", "Backend")
    path = Field("path", "File")
    size = Size("size", "Size")
