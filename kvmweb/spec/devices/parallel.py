from kvmweb.spec.devices.character import Character


class Parallel(Character):
    tag = "parallel"
    icon = "printer"
    noun = "Parallel"
    is_numbered = True
