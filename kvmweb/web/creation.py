"""The wizard that creates a machine, in virt-manager's steps.

Steps are plain GET requests with everything in the address, so Back, reload and bookmarks work;
only a pasted document is too long for that. Creating is a POST.
"""

import time
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from kvmweb.models import Acceleration, Host, Job, JobState, Machine, Network, Pool, User, Volume
from kvmweb.models.access import HOSTS, may
from kvmweb.operations import creation
from kvmweb.operations.creation.draft import (
    BLOCK_POOLS,
    FILE_POOLS,
    capabilities_of,
    default_pool_path,
    draft,
)
from kvmweb.operations.creation.wish import Wish
from kvmweb.operations.operation import Refused
from kvmweb.spec.creation import Source, document, virt_install_command
from kvmweb.spec.devices.disk import disks
from kvmweb.spec.xml import XmlError, readable
from kvmweb.web.operate import WAIT_SECONDS, status_of, submit
from kvmweb.web.wizard import Step, Wizard

VOLUMES_SHOWN = 100
# Which step comes after the first depends on what is chosen there.
ONWARD = "onward"
# A second press of Create, while the first is still being answered, is the same wish.
SAME_WISH_SECONDS = 30


@require_http_methods(["GET", "HEAD", "POST"])
def wizard(request: HttpRequest) -> HttpResponse:
    data = request.POST if request.method == "POST" else request.GET
    refusal = creation.create.refusal(request.user)
    hosts = Host.objects.visible_to(request.user)
    host = _host(hosts, str(data.get("host", "")))
    if refusal or host is None:
        context = {"refusal": refusal, "may_add_hosts": may(request.user, HOSTS)}
        status = 403 if refusal else 200
        return render(request, "machines/create_refused.html", context, status=status)
    state = Wizard.read(host, data)
    if request.method == "POST" and "create" in request.POST:
        return _create(request, state)
    fragment = data.get("fragment", "")
    if fragment == "preview":
        state.wish()
        return render(request, "machines/create_preview.html", _summary(state))
    if fragment == "volumes":
        field = "iso" if data.get("pick_for") == "iso" else "disk_path"
        context = _media(state, field, filter_by=state[field])
        return render(request, "machines/create_volumes.html", context)
    state.examine()
    wanted = data.get("step", "") or (data.get("after", "") if "pick" in data else "")
    step = state.reach(_first(state) if wanted in ("", ONWARD) else wanted)
    return _page(request, state, step, is_finished=False)


def _host(hosts: QuerySet[Host], name: str) -> Host | None:
    """The named one; without a name the first that can be reached."""
    found = [host for host in hosts if name in ("", host.name)]
    if name and not found:
        raise Http404
    return next((host for host in found if host.is_connected), None) or next(iter(found), None)


def _first(state: Wizard) -> str:
    """Where a link with a source in it leads: the tiny guest needs no questions."""
    if state.source == Source.TINY:
        return "ready"
    return state.steps[1].name if state.source else "source"


def _create(request: HttpRequest, state: Wizard) -> HttpResponse:
    wish = state.examine()
    if state.errors or wish is None:
        return _wrong(request, state)
    try:
        job = _same_wish(request, state, wish) or submit(
            request, creation.create, state.host, state.arguments()
        )
    except Refused as refused:
        state.blame(refused.fields or {"": refused.sentence})
        return _wrong(request, state, status=status_of(refused))
    job.wait(WAIT_SECONDS)
    if job.state == JobState.FAILED:
        state.blame({job.error_field: job.error})
        return _wrong(request, state)
    if job.state == JobState.DONE and _is_mirrored(job):
        return redirect("machine_console", job.result["uuid"])
    return redirect(reverse("job", args=[job.pk]) + "?then=machine")


def _same_wish(request: HttpRequest, state: Wizard, wish: Wish) -> Job | None:
    assert isinstance(request.user, User)
    recent = Job.objects.filter(
        kind=creation.create.kind,
        user=request.user,
        host=state.host,
        state__in=(JobState.QUEUED, JobState.RUNNING),
        created__gt=timezone.now() - timedelta(seconds=SAME_WISH_SECONDS),
    )
    arguments = wish.model_dump(mode="json")
    return next((job for job in recent if job.arguments == arguments), None)


def _is_mirrored(job: Job) -> bool:
    """Libvirt's event is a moment behind the job; the machine's page should be there."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if Machine.objects.filter(host=job.host_id, uuid=job.result["uuid"]).exists():
            return True
        time.sleep(0.01)
    return False


def _wrong(request: HttpRequest, state: Wizard, *, status: int = 422) -> HttpResponse:
    first = min((state.step_of(name) for name in state.errors), key=state.steps.index)
    return _page(request, state, first, is_finished=True, status=status)


def _page(
    request: HttpRequest, state: Wizard, step: Step, *, is_finished: bool, status: int = 200
) -> HttpResponse:
    """``is_finished``: the person pressed Create, so everything that is wrong is said; else only
    what keeps them from going on."""
    data = request.POST if request.method == "POST" else request.GET
    wanted = data.get("step", "") or data.get("after", "")
    is_kept_from = wanted not in ("", step.name)
    place = state.steps.index(step)
    context = {
        "wizard": state,
        "step": step,
        "template": f"machines/create_{step.name}.html",
        "steps": _progress(state, place),
        "number": place + 1,
        "next": _next(state, place),
        "previous": state.steps[place - 1].name if place else "",
        "errors": state.errors if is_finished or is_kept_from else {},
        "kept": [(name, state.typed[name]) for name in state.typed if name not in step.fields],
        # A pasted document is too long for an address, and the last step carries a CSRF token.
        "method": "post" if "xml" in state.typed or step is state.steps[-1] else "get",
        "hosts": Host.objects.visible_to(request.user),
        **_of_step(state, step),
    }
    return render(request, "machines/create.html", context, status=status)


def _next(state: Wizard, place: int) -> str:
    if place == 0:
        return ONWARD
    return state.steps[place + 1].name if place + 1 < len(state.steps) else ""


def _progress(state: Wizard, place: int) -> list[dict[str, Any]]:
    return [
        {"name": step.name, "label": step.label, "is_done": number < place}
        for number, step in enumerate(state.steps)
    ]


def _of_step(state: Wizard, step: Step) -> dict[str, Any]:
    if step.name == "source":
        return {"sources": _sources()}
    if step.name == "resources":
        return {
            "host_cpus": state.host.cpus,
            "host_mib": state.host.memory_kib // 1024,
            "most_vcpus": capabilities_of(state.host).vcpus_maximum or state.host.cpus,
        }
    is_media = step.name == "media"
    if is_media or step.name == "storage":
        pools = Pool.objects.filter(host=state.host, type__in=FILE_POOLS + BLOCK_POOLS)
        return {
            "pools": list(pools.filter(is_active=True)),
            "new_pool_path": default_pool_path(state.host),
            **_media(state, "iso" if state.source == Source.ISO and is_media else "disk_path"),
        }
    return _summary(state) if step.name == "ready" else {}


def _sources() -> list[tuple[str, str, str]]:
    return [
        ("tiny", _("Tiny guest"), _("Try it: a tiny Linux that boots in seconds.")),
        ("iso", _("ISO image"), _("Install from an image of a CD or DVD.")),
        ("import", _("Existing disk"), _("Start from a disk image that is already installed.")),
        ("pxe", _("Network boot"), _("Install from a PXE server on the network.")),
        ("blank", _("Blank machine"), _("An empty disk and an empty CD drive, for later.")),
        ("xml", _("Libvirt XML"), _("Paste the document of a machine.")),
    ]


def _media(state: Wizard, field: str, *, filter_by: str = "") -> dict[str, Any]:
    """The volumes of the host's pools that fit the field, and the machines that have them."""
    images = Q(format="iso") | Q(name__iendswith=".iso")
    volumes = Volume.objects.filter(pool__host=state.host, pool__is_active=True)
    volumes = volumes.exclude(format="dir").exclude(name__startswith="kvmweb-tiny-")
    volumes = volumes.filter(images) if field == "iso" else volumes.exclude(images)
    if filter_by:
        volumes = volumes.filter(Q(name__icontains=filter_by) | Q(path__icontains=filter_by))
    shown = list(volumes.select_related("pool").order_by("name")[: VOLUMES_SHOWN + 1])
    users = {} if field == "iso" else _users(state.host)
    return {
        "wizard": state,
        "media_field": field,
        "chosen": state[field],
        "volumes": [(volume, users.get(volume.path, "")) for volume in shown[:VOLUMES_SHOWN]],
        "has_more": len(shown) > VOLUMES_SHOWN,
        "filter": filter_by,
    }


def _users(host: Host) -> dict[str, str]:
    """Which machine has which disk."""
    found = {}
    for name, xml in Machine.objects.filter(host=host).values_list("name", "xml"):
        try:
            found.update({disk.source: name for disk in disks(xml) if not disk.is_read_only})
        except XmlError:
            continue  # the mirror keeps whatever libvirt gave
    return found


def _summary(state: Wizard) -> dict[str, Any]:
    """What the last step shows: everything chosen, in words, as XML and as a command."""
    context: dict[str, Any] = {
        "wizard": state,
        "network_choices": _network_choices(state.networks),
        "has_inactive_network": any(not network.is_active for network in state.networks),
        "has_uefi": capabilities_of(state.host).has_uefi and state.source != Source.TINY,
        "has_secure_boot": capabilities_of(state.host).has_secure_boot,
    }
    wish = state.wish()
    if wish is None or not wish.source:
        return context | {"errors": state.errors}
    choices = draft(state.host, wish)
    return context | {
        "choices": choices,
        "source_label": {name: label for name, label, _hint in _sources()}[wish.source],
        "memory": readable(choices.memory_mib * 2**20),
        "document": document(choices),
        "command": virt_install_command(choices) if choices.is_real else [],
        "notes": _notes(state, wish),
    }


def _network_choices(networks: list[Network]) -> list[tuple[str, str]]:
    """In virt-manager's words."""
    labels = [
        (
            f"network:{network.name}",
            _("Virtual network “%(name)s”: %(mode)s")
            % {"name": network.name, "mode": _mode(network.forward_mode)}
            + ("" if network.is_active else f" ({_('not active')})"),
        )
        for network in networks
    ]
    return [*labels, ("bridge", _("Bridge device…")), ("none", _("No network"))]


def _mode(forward_mode: str) -> str:
    return {"": _("isolated"), "nat": "NAT", "route": _("routed")}.get(forward_mode, forward_mode)


def _notes(state: Wizard, wish: Wish) -> list[str]:
    """What is not wrong, but should be known before."""
    notes = []
    known = capabilities_of(state.host)
    if known.virtualization == "qemu":
        reason = Acceleration(state.host.acceleration).label if state.host.acceleration else ""
        notes.append(
            _("This host runs the machine without KVM, in software: it works, many times slower.")
            + (f" ({reason})" if reason else "")
        )
    if wish.disk_gib or wish.source == Source.TINY:
        notes += _pool_notes(state, wish)
    user = _users(state.host).get(wish.disk_path) if wish.disk_path else None
    if user:
        notes.append(
            _("The machine “%s” has this disk too. Never run both at the same time.") % user
        )
    if wish.vcpus > state.host.cpus > 0:
        notes.append(
            _("The host has %d CPUs; more than that makes the machine slower.") % state.host.cpus
        )
    return notes


def _pool_notes(state: Wizard, wish: Wish) -> list[str]:
    pool = Pool.objects.filter(host=state.host, name=wish.pool).first()
    if pool is None:
        path = default_pool_path(state.host)
        return [_("The host has no storage pool yet: “default” is created, at %s.") % path]
    if wish.disk_gib * 2**30 > pool.available_bytes:
        return [
            _(
                "The pool “%(name)s” has %(free)s available, less than the disk may grow to. When "
                "the pool is full the machine pauses."
            )
            % {"name": pool.name, "free": readable(pool.available_bytes)}
        ]
    return []
