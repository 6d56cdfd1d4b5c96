"""What a host can do: https://libvirt.org/formatcaps.html and formatdomaincaps.html."""

from dataclasses import dataclass

from kvmweb.spec.xml import Element, Field, Number, Tree, parse


class HostCapabilities(Element):
    architecture = Field("host/cpu/arch")
    cpu_model = Field("host/cpu/model")
    cpu_vendor = Field("host/cpu/vendor")

    def machine_types(self, architecture: str) -> list[str]:
        """The machine types of its emulator for this architecture."""
        path = f"guest/arch[@name='{architecture}']/machine"
        return sorted({(machine.text or "").strip() for machine in self.tree.iterfind(path)})


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the mirror keeps in columns of ``models.Host``."""

    architecture: str
    cpu_model: str


def host_facts(xml: str) -> HostFacts:
    """Of ``virConnectGetCapabilities``. Raises ``XmlError``."""
    host = HostCapabilities(parse(xml))
    return HostFacts(architecture=host.architecture, cpu_model=host.cpu_model)


class _DomainDocument(Element):
    virtualization = Field("domain")
    architecture = Field("arch")
    machine = Field("machine")
    vcpus_maximum = Number("vcpu/@max")


@dataclass(frozen=True, slots=True)
class DomainCapabilities:
    """What a machine on this host may have; empty sets mean that the host does not say."""

    virtualization: str
    architecture: str
    machine: str = ""
    vcpus_maximum: int = 0
    has_uefi: bool = False
    has_secure_boot: bool = False
    cpu_modes: frozenset[str] = frozenset()
    disk_buses: frozenset[str] = frozenset()
    video_models: frozenset[str] = frozenset()
    graphics: frozenset[str] = frozenset()
    rng_backends: frozenset[str] = frozenset()
    tpm_backends: frozenset[str] = frozenset()

    @property
    def is_pc(self) -> bool:
        return self.architecture in ("x86_64", "i686")


def domain_capabilities(xml: str) -> DomainCapabilities:
    """Of ``virConnectGetDomainCapabilities``. Raises ``XmlError``."""
    root = parse(xml)
    document = _DomainDocument(root)
    modes = [mode for mode in root.iterfind("cpu/mode") if mode.get("supported") == "yes"]
    return DomainCapabilities(
        virtualization=document.virtualization,
        architecture=document.architecture,
        machine=document.machine,
        vcpus_maximum=document.vcpus_maximum,
        has_uefi="efi" in _enum(root, "os", "firmware"),
        has_secure_boot="yes" in _enum(root, "os/loader", "secure"),
        cpu_modes=frozenset(mode.get("name", "") for mode in modes),
        disk_buses=_enum(root, "devices/disk", "bus"),
        video_models=_enum(root, "devices/video", "modelType"),
        graphics=_enum(root, "devices/graphics", "type"),
        rng_backends=_enum(root, "devices/rng", "backendModel"),
        tpm_backends=_enum(root, "devices/tpm", "backendModel"),
    )


def _enum(root: Tree, path: str, name: str) -> frozenset[str]:
    found = root.find(path)
    if found is None or found.get("supported") == "no":
        return frozenset()
    values = found.iterfind(f"enum[@name='{name}']/value")
    return frozenset((value.text or "").strip() for value in values)


def best(
    documents: dict[str, str], *, driver: str, architecture: str, is_kvm_usable: bool
) -> DomainCapabilities:
    """What new machines of a host get: KVM where it serves, else emulation.

    ``documents``: domain capabilities by virtualization type. Drivers without any (libvirt's test
    driver) get what every one has.
    """
    for virtualization in ("kvm", "qemu", "xen"):
        if virtualization in documents and (virtualization != "kvm" or is_kvm_usable):
            return domain_capabilities(documents[virtualization])
    virtualization = {"TEST": "test"}.get(driver.upper(), "qemu")
    return DomainCapabilities(virtualization, architecture or "x86_64")
