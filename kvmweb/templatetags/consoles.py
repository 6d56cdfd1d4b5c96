"""What the templates of the console need."""

from django import template
from django.utils.safestring import SafeString

from kvmweb.models import Machine
from kvmweb.models.access import CONSOLE_CONTROL, CONSOLE_VIEW, Viewer, may
from kvmweb.models.console import Level
from kvmweb.operations import machines
from kvmweb.templatetags.operations import Context, operation_button

register = template.Library()


@register.filter
def console_level(user: Viewer, machine: Machine) -> str:
    """The most this user may have of the machine's console; "" for nothing."""
    if may(user, CONSOLE_CONTROL, machine):
        return Level.CONTROL
    return Level.VIEW if may(user, CONSOLE_VIEW, machine) else ""


@register.simple_tag(takes_context=True)
def start_button(context: Context, machine: Machine) -> SafeString:
    return operation_button(context, machines.start, machine, look="btn btn-primary")


@register.simple_tag
def function_keys() -> list[str]:
    return [f"F{number}" for number in range(1, 13)]
