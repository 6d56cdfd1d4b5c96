from kvmweb.spec.devices.device import Device
from kvmweb.spec.xml import Field, Number

_SOURCES = {
    "network": "Virtual network",
    "bridge": "Bridge",
    "direct": "Macvtap device",
    "user": "User mode",
    "hostdev": "Passed-through device",
    "vdpa": "vDPA device",
    "vhostuser": "vhost-user",
    "ethernet": "Tap device",
    "internal": "Internal",
}


class Interface(Device):
    tag = "interface"
    icon = "network"
    type = Field("@type")
    mac = Field("mac/@address", "MAC address")
    network = Field("source/@network")
    bridge = Field("source/@bridge")
    device = Field("source/@dev")
    source_mode = Field("source/@mode", "Source mode")
    portgroup = Field("source/@portgroup", "Port group")
    model = Field("model/@type", "Device model")
    virtualport = Field("virtualport/@type", "Virtual port")
    tap = Field("target/@dev", "Host interface")
    filter = Field("filterref/@filter", "Filter")
    link = Field("link/@state", "Link state")
    mtu = Number("mtu/@size", "MTU")
    boot_order = Number("boot/@order", "Boot order")

    @property
    def kind(self) -> str:
        # Its vendor half is the same in all of them, so virt-manager shows the other.
        return f"NIC {self.mac[-8:]}".strip()

    @property
    def vlan_tags(self) -> str:
        return ", ".join(tag.get("id", "") for tag in self.tree.iterfind("vlan/tag"))

    def facts(self) -> list[tuple[str, str]]:
        source = (_SOURCES.get(self.type, self.type), self.network or self.bridge or self.device)
        shown = source if source[1] else ("Source", source[0])
        vlans = [("VLAN", self.vlan_tags)] if self.vlan_tags else []
        return [shown, *super().facts(), *vlans]
