from kvmweb.spec.devices.character import Character


class Serial(Character):
    tag = "serial"
    icon = "terminal-2"
    noun = "Serial"
    is_numbered = True
