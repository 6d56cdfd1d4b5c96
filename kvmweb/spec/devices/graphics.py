from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field

_NOUNS = {
    "vnc": "VNC",
    "spice": "Spice",
    "sdl": "SDL",
    "rdp": "RDP",
    "egl-headless": "EGL headless",
    "dbus": "D-Bus",
}


class Graphics(Device):
    tag = "graphics"
    icon = "device-desktop"
    type = Field("@type", "Type")
    listen_type = Field("listen/@type", "Listens on")
    address = Field("listen/@address", "Address")
    network = Field("listen/@network", "Network")
    socket = Field("listen/@socket", "Socket")
    port = Field("@port")
    keymap = Field("@keymap", "Keymap")
    is_autoport = Field("@autoport")
    gl = Field("gl/@enable", "OpenGL")
    # Only in a document read with VIR_DOMAIN_XML_SECURE; that it is set may be shown, not what.
    password = Field("@passwd")

    @property
    def kind(self) -> str:
        return f"Display {_NOUNS.get(self.type, self.type)}"

    def facts(self) -> list[tuple[str, str]]:
        # -1 is libvirt's "chosen at start", 0 a display without a port.
        port = {"-1": "chosen at start", "0": ""}.get(self.port, self.port)
        extra = [("Port", port)] if port else []
        return super().facts() + extra + ([("Password", "set")] if self.password else [])
