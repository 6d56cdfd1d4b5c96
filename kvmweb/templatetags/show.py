"""How things are shown: icons, sizes, times, command lines."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from django import template
from django.forms import BoundField
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from kvmweb.spec.xml import readable

register = template.Library()


@register.simple_tag
@cache
def icon(name: str) -> SafeString:
    """An icon of the sprite. It says nothing to a screen reader: the text beside it does."""
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.simple_tag
def icon_named(name: str) -> SafeString:
    """The same, for a name that only the program knows: the build does not see it here."""
    return icon(name)


@register.simple_tag
def state(value: str, label: str | Promise) -> SafeString:
    """A state with its shape and its word."""
    return format_html(
        '<span class="state state-{}">{}</span>', value.replace(" ", "-") or "unknown", label
    )


@register.simple_tag
def when(moment: datetime | None) -> SafeString:
    """How long ago, with the exact time in the tooltip."""
    if moment is None:
        return format_html('<span class="text-secondary">{}</span>', _("never"))
    ago = (timezone.now() - moment).total_seconds()
    text = _("just now") if ago < 60 else _("%(time)s ago") % {"time": timesince(moment, depth=1)}
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        date_format(timezone.localtime(moment), "DATETIME_FORMAT"),
        text,
    )


@register.filter
def kib(size_kib: int | None) -> str:
    """A size given in KiB: ``2 GiB``, ``1.5 GiB``, ``512 MiB``."""
    return readable((size_kib or 0) * 1024)


@register.filter
def size(size_bytes: int | None) -> str:
    """A size given in bytes."""
    return readable(size_bytes or 0)


@register.filter
def percent_of(part: float | None, whole: float | None) -> int:
    """How much of ``whole`` is ``part``, 0 to 100."""
    return min(100, round(100 * (part or 0) / whole)) if whole else 0


@register.filter
def command_line(words: Sequence[str]) -> str:
    """A command as one would type it into a shell."""
    return shlex.join(str(word) for word in words)


_TOKENS = re.compile(
    r"(?P<c><!--.*?-->)|(?P<t></?[\w:.-]+|/?>|<\?[\w-]+|\?>)|(?P<a>[\w:.-]+)(?==)"
    r"|(?P<v>\"[^\"]*\"|'[^']*')",
    re.DOTALL,
)


@register.filter
def highlighted_xml(document: str) -> SafeString:
    """Tags, attributes and values of a document in colours; the text itself is untouched."""
    pieces: list[str] = []
    at = 0
    for found in _TOKENS.finditer(document):
        pieces.append(escape(document[at : found.start()]))
        pieces.append(f'<span class="{found.lastgroup}">{escape(found.group())}</span>')
        at = found.end()
    return mark_safe("".join(pieces) + escape(document[at:]))  # noqa: S308 -- escaped piece by piece


@register.simple_tag
def meter(percent: float | str | None, label: str | Promise, text: str = "") -> SafeString:
    """A usage bar with its number beside it; the number is what a screen reader reads."""
    if percent is None or percent == "":  # a template says "" for what is not there
        return format_html('<span class="text-secondary">{}</span>', _("not known"))
    whole = round(float(percent))
    level = "high" if whole >= 90 else "middle" if whole >= 75 else "low"
    return format_html(
        '<span class="meter meter-{}" role="meter" aria-label="{}" aria-valuemin="0"'
        ' aria-valuemax="100" aria-valuenow="{}"><svg viewBox="0 0 100 1" '
        'preserveAspectRatio="none" fill="currentColor" aria-hidden="true">'
        '<rect width="{}" height="1"/></svg></span><span class="meter-text">{}</span>',
        level,
        label,
        whole,
        whole,
        text or f"{whole} %",
    )


@register.simple_tag
def form_field(field: BoundField) -> SafeString:
    """The input of a form's field, in the site's looks and bound to its hint and error."""
    kind = field.widget_type
    look = {"checkbox": "form-check-input", "select": "form-select"}.get(kind, "form-control")
    attributes: dict[str, str | bool] = {"class": f"{look} is-invalid" if field.errors else look}
    return SafeString(field.as_widget(attrs=attributes))
