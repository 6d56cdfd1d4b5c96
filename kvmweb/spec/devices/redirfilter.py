from kvmweb.spec.devices.device import Device


class RedirectionFilter(Device):
    tag = "redirfilter"
    icon = "filter"
    noun = "USB redirection filter"

    def facts(self) -> list[tuple[str, str]]:
        rules = [
            ", ".join(f"{name} {value}" for name, value in rule.items())
            for rule in self.tree.iterfind("usbdev")
        ]
        return [(f"Rule {number}", rule) for number, rule in enumerate(rules, start=1)]
