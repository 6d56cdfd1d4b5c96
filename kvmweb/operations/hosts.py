"""Libvirt connections: add, test, edit, remove."""

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import AfterValidator, Field, StringConstraints

from kvmweb.models import Host, Job
from kvmweb.models.access import HOSTS
from kvmweb.models.live import announce, wake_agents
from kvmweb.operations.operation import operation
from kvmweb.virt.connections import open_connection
from kvmweb.virt.errors import OperationError

TRANSPORTS = {"unix", "ssh", "libssh", "libssh2", "tls", "tcp"}
# They would have the site, or the host, run a program of the caller's choice.
# https://libvirt.org/uri.html#extra-parameters
PROGRAMS = {"command", "netcat", "mode_command"}


def checked_uri(uri: str) -> str:
    """A libvirt URI that is safe to open, https://libvirt.org/uri.html. Raises ``ValueError``."""
    if any(letter.isspace() or not letter.isprintable() for letter in uri):
        raise ValueError(now("A URI has no spaces or line breaks."))
    try:
        parts = urlsplit(uri)
        has_password = parts.password is not None
    except ValueError:
        raise ValueError(
            now("This is not a URI. An example: qemu+ssh://root@host/system")
        ) from None
    driver, plus, transport = parts.scheme.partition("+")
    if not driver or "://" not in uri:
        raise ValueError(now("This is not a URI. An example: qemu+ssh://root@host/system"))
    if plus and transport not in TRANSPORTS:
        raise ValueError(now("The transport must be one of unix, ssh, libssh2, libssh, tls, tcp."))
    if has_password:
        raise ValueError(now("Leave the password out: it would be shown to everyone. Use a key."))
    if PROGRAMS & {name for name, _value in parse_qsl(parts.query, keep_blank_values=True)}:
        raise ValueError(now("The parameters command and netcat are not taken: they run programs."))
    return uri


def checked_name(name: str) -> str:
    """Raises ``ValueError``: the name is part of addresses in the API."""
    if not all(letter.isalnum() or letter in "._-" for letter in name) or not name[0].isalnum():
        raise ValueError(now("Use letters, digits, dots, dashes and underscores only."))
    return name


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    AfterValidator(checked_name),
    Field(title="Name", description="A short name for this host, unique on this site."),
]
Uri = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500),
    AfterValidator(checked_uri),
    Field(title="libvirt URI", description="For example qemu+ssh://root@host/system"),
]


@operation(_("Test"), needs=HOSTS, icon="plug-connected", is_for_site=True)
def test(job: Job, *, uri: Uri) -> None:
    """Connect once and say what answers."""
    job.result = _try(job, uri)


@operation(_("Add host"), needs=HOSTS, icon="plus", is_for_site=True)
def add(job: Job, *, name: Name, uri: Uri) -> None:
    """Connect once; if the host answers, keep it."""
    _check_free(name)
    answer = _try(job, uri)
    host = Host.objects.create(name=name, uri=uri)
    job.result = {**answer, "host": host.pk, "name": name}
    _tell(host)


@operation(_("Edit"), needs=HOSTS, icon="pencil", is_for_site=True)
def edit(job: Job, host: Host, *, name: Name, uri: Uri) -> None:
    """Rename the host, or reach it by another URI; a new URI is tried first."""
    if name != host.name:
        _check_free(name)
    fields = {"name": name}
    if uri != host.uri:
        _try(job, uri)
        fields["uri"] = uri
    Host.objects.filter(pk=host.pk).update(**fields)
    if "uri" in fields:
        _renew(host)
    _tell(host)


@operation(
    _("Remove"),
    needs=HOSTS,
    icon="trash",
    is_dangerous=True,
    is_for_site=True,
    confirm=_(
        "The site forgets this host. Nothing on the host itself is touched: its machines, networks "
        "and disks stay and go on running. You can add it again at any time."
    ),
)
def remove(job: Job, host: Host) -> None:
    """Forget the host; nothing on it is touched."""
    host.delete()
    announce(host.topic, "hosts", "machines", "networks", "pools")
    wake_agents()


@operation(_("Reconnect"), needs=HOSTS, icon="refresh", is_for_site=True)
def reconnect(job: Job, host: Host) -> None:
    """Drop the connection, open it anew and read everything again."""
    _renew(host)
    _tell(host)


def _try(job: Job, uri: str) -> dict[str, str]:
    """What answers at the URI. Raises ``OperationError`` at the field ``uri``."""
    job.progress(None, _("Connecting to %s") % uri)
    job.ran("virsh", "-c", uri, "hostname")
    try:
        opened = open_connection(uri)
    except OperationError as error:
        raise OperationError(error.sentence, field="uri", detail=error.detail) from error
    answer = {"hostname": opened.getHostname(), "driver": opened.getType()}
    opened.close()
    job.progress(90, _("%(hostname)s answers (%(driver)s)") % answer)
    return answer


def _check_free(name: str) -> None:
    if Host.objects.filter(name=name).exists():
        raise OperationError(
            _("There is a host named %s already. Choose another name.") % name, field="name"
        )


def _renew(host: Host) -> None:
    Host.objects.filter(pk=host.pk).update(generation=host.generation + 1)


def _tell(host: Host) -> None:
    announce(host.topic, "hosts")
    wake_agents()
