"""What serial and parallel ports, consoles and channels have in common."""

from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field


class Character(Device):
    type = Field("@type", "Type")
    tty = Field("@tty", "Host terminal")
    path = Field("source/@path", "Source path")
    mode = Field("source/@mode", "Mode")
    host = Field("source/@host", "Source host")
    service = Field("source/@service", "Source port")
    log = Field("log/@file", "Log file")
    target_type = Field("target/@type", "Target type")
    target_port = Field("target/@port")
    target_name = Field("target/@name", "Target name")
    target_state = Field("target/@state", "State")
