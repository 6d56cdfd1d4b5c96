from kvmweb.spec.devices.character import Character


class Console(Character):
    """On x86 the first one is only another name for the first serial port."""

    tag = "console"
    icon = "terminal"
    noun = "Console"
    is_numbered = True
