"""Buttons that ask for operations, and what of the site a person may reach."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.db.models import Model
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from kvmweb.models import Host, Job, JobState, Privilege
from kvmweb.models.access import Viewer
from kvmweb.models.access import may as is_allowed
from kvmweb.models.jobs import UNFINISHED
from kvmweb.operations.operation import OPERATIONS, Operation
from kvmweb.templatetags.show import icon, state

register = template.Library()
Context = Any  # django.template.Context is a stack of dicts without a useful type


@register.filter
def may(user: Viewer, privilege: str) -> bool:
    """``{% if user|may:"users" %}``"""
    return is_allowed(user, Privilege(privilege))


@register.simple_tag(takes_context=True)
def nav_link(context: Context, name: str, label: str, icon_name: str) -> SafeString:
    """A line of the main navigation; it is the current one for every page below its address."""
    url = reverse(name)
    is_current = context["request"].path.startswith(url)
    return format_html(
        '<a class="sidebar-link" href="{}"{}>{}<span>{}</span></a>',
        url,
        SafeString(' aria-current="page"') if is_current else "",
        icon(icon_name),
        label,
    )


@register.simple_tag(takes_context=True)
def jobs_button(context: Context) -> SafeString:
    """The button of the header that opens the panel of jobs and counts those under way."""
    return SafeString(
        render_to_string("jobs/_button.html", {"count": running_count(context["user"])})
    )


def running_count(user: Viewer) -> int:
    return Job.objects.visible_to(user).filter(state__in=UNFINISHED).count()


def operate_url(operation: Operation, target: Model) -> str:
    """Where the operation is asked for."""
    if operation.noun == "machines":
        return reverse("machine_operate", args=[target.uuid, operation.name])  # type: ignore[attr-defined]
    if operation.noun == "hosts":
        return reverse("host_operate", args=[target.pk, operation.name])
    if operation.noun == "filters" and isinstance(target, Host):
        return reverse("filter_host_operate", args=[target.pk, operation.name])
    if operation.noun == "networks":
        return _on_host(reverse("network_operate", args=[target.uuid, operation.name]), target)  # type: ignore[attr-defined]
    if operation.noun == "filters":
        return _on_host(reverse("filter_operate", args=[target.uuid, operation.name]), target)  # type: ignore[attr-defined]
    if operation.noun == "security_groups":
        return reverse("security_group_operate", args=[target.uuid, operation.name])  # type: ignore[attr-defined]
    if operation.noun == "hostnet":
        return reverse("hostnet_operate", args=[target.pk, operation.name])
    raise NoReverseMatch(f"{operation.kind} has no address")


def _on_host(address: str, target: Model) -> str:
    """Copies on several hosts may have one UUID."""
    return f"{address}?{urlencode({'host': target.host.name})}"  # type: ignore[attr-defined]


def has_dialog(operation: Operation) -> bool:
    """Whether something must be asked or confirmed before."""
    return bool(operation.confirm or operation.arguments.model_fields)


@register.filter
def label(job: Job) -> str:
    """What a job does, in the words of its button."""
    operation = OPERATIONS.get(job.kind)
    return str(operation.label) if operation else job.kind


@register.simple_tag
def progress_line(job: Job) -> SafeString:
    """How far a job is; without a number it only moves."""
    value = "" if job.percent is None else format_html(' value="{}"', job.percent)
    return format_html(
        '<progress class="progress-line" max="100" aria-label="{}"{}></progress>', label(job), value
    )


@register.simple_tag(takes_context=True)
def operation_button(
    context: Context, operation: Operation, target: Model, look: str = "btn", show: str = "text"
) -> SafeString:
    """A button for the operation; where it is refused, one that says why.

    ``look``: its classes. ``show``: "text" shows the label, "icon" leaves it to the tooltip, and
    "menu" writes the reason of a refusal below it.
    """
    refusal = operation.refusal(context["user"], target)
    is_danger = operation.is_dangerous and not refusal
    return format_html(
        '<button type="button" class="{}{}{}"{}>{}{}</button>{}',
        look,
        " disabled" if refusal else "",
        " is-dangerous" if is_danger else "",
        _refused(operation, target, refusal, show) if refusal else _asking(operation, target, show),
        icon(operation.icon) if operation.icon else "",
        _words(operation, refusal, show),
        _reason(operation, target, refusal) if refusal and show != "menu" else "",
    )


def _words(operation: Operation, refusal: str | None, show: str) -> SafeString:
    if show == "icon":
        return format_html('<span class="visually-hidden">{}</span>', operation.label)
    if show == "menu" and refusal:
        return format_html("<span>{}<small>{}</small></span>", operation.label, refusal)
    return format_html("<span>{}</span>", operation.label)


def _asking(operation: Operation, target: Model, show: str) -> SafeString:
    url = operate_url(operation, target)
    tip = format_html(' title="{}"', operation.label) if show == "icon" else ""
    if has_dialog(operation):
        return format_html('{} hx-get="{}" hx-target="#dialog" aria-haspopup="dialog"', tip, url)
    return format_html('{} hx-post="{}" hx-swap="none" hx-disable="this"', tip, url)


def _refused(operation: Operation, target: Model, refusal: str, show: str) -> SafeString:
    # Not `disabled`: that would take the button from the keyboard, and with it the reason.
    if show == "menu":
        return SafeString(' aria-disabled="true"')
    return format_html(
        ' aria-disabled="true" aria-describedby="{}" title="{}"',
        _reason_id(operation, target),
        refusal,
    )


def _reason_id(operation: Operation, target: Model) -> str:
    return f"why-{operation.name}-{target.pk}"


def _reason(operation: Operation, target: Model, refusal: str) -> SafeString:
    return format_html('<span id="{}" hidden>{}</span>', _reason_id(operation, target), refusal)


@register.simple_tag
def job_state(job: Job) -> SafeString:
    """The state of a job; a running one looks different from a running machine."""
    return state("working" if job.state == JobState.RUNNING else job.state, job.get_state_display())
