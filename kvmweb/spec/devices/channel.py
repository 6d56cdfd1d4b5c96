from kvmweb.spec.devices.character import Character

_NOUNS = {
    "org.qemu.guest_agent.0": "qemu-ga",
    "com.redhat.spice.0": "spice",
    "org.libguestfs.channel.0": "libguestfs",
    "org.spice-space.webdav.0": "spice webdav",
}


class Channel(Character):
    tag = "channel"
    icon = "arrows-left-right"

    @property
    def kind(self) -> str:
        name = _NOUNS.get(self.target_name, self.target_name)
        return f"Channel ({name})" if name else "Channel"
