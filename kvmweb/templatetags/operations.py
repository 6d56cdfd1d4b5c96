"""Buttons that ask for operations, and what of the site a person may reach."""

from typing import Any

from django import template
from django.db.models import Model
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from kvmweb.models import Job, Privilege
from kvmweb.models.access import Viewer
from kvmweb.models.access import may as is_allowed
from kvmweb.models.jobs import UNFINISHED
from kvmweb.operations.operation import Operation
from kvmweb.templatetags.show import icon

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
    raise NoReverseMatch(f"{operation.kind} has no address")


def has_dialog(operation: Operation) -> bool:
    """Whether something must be asked or confirmed before."""
    return bool(operation.confirm or operation.arguments.model_fields)


@register.simple_tag(takes_context=True)
def operation_button(
    context: Context, operation: Operation, target: Model, look: str = "btn", label: str = "text"
) -> SafeString:
    """A button for the operation; where it is refused, one that says why.

    ``look``: its classes. ``label``: "text" shows the label, "icon" leaves it to the tooltip.
    """
    refusal = operation.refusal(context["user"], target)
    inside = icon(operation.icon) if operation.icon else SafeString("")
    text = operation.label
    inside += format_html(
        '<span class="visually-hidden">{}</span>' if label == "icon" else "<span>{}</span>", text
    )
    tip = refusal or (text if label == "icon" else "")
    attributes = _refused(operation, target, refusal) if refusal else _asking(operation, target)
    return format_html(
        '<button type="button" class="{}{}" title="{}"{}>{}</button>{}',
        look,
        " disabled" if refusal else "",
        tip,
        attributes,
        inside,
        _reason(operation, target, refusal) if refusal else "",
    )


def _asking(operation: Operation, target: Model) -> SafeString:
    url = operate_url(operation, target)
    if has_dialog(operation):
        return format_html(' hx-get="{}" hx-target="#dialog" aria-haspopup="dialog"', url)
    return format_html(' hx-post="{}" hx-swap="none" hx-disable="this"', url)


def _reason_id(operation: Operation, target: Model) -> str:
    return f"why-{operation.name}-{target.pk}"


def _refused(operation: Operation, target: Model, refusal: str) -> SafeString:
    # Not `disabled`: that would take the button from the keyboard, and with it the reason.
    return format_html(
        ' aria-disabled="true" aria-describedby="{}"', _reason_id(operation, target)
    )


def _reason(operation: Operation, target: Model, refusal: str) -> SafeString:
    return format_html('<span id="{}" hidden>{}</span>', _reason_id(operation, target), refusal)
