"""How things are shown: icons, sizes, times, command lines."""

import shlex
from collections.abc import Sequence

from django import template
from django.templatetags.static import static
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

register = template.Library()

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of the sprite. It says nothing to a screen reader: the text beside it does."""
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.filter
def kib(size_kib: int | None) -> str:
    """A size given in KiB: ``2 GiB``, ``1.5 GiB``, ``512 MiB``."""
    size, unit = float(size_kib or 0), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f}".removesuffix(".0") + " " + _UNITS[unit]


@register.filter
def size(size_bytes: int | None) -> str:
    """A size given in bytes."""
    return kib(size_bytes // 1024) if size_bytes and size_bytes >= 1024 else f"{size_bytes or 0} B"


@register.filter
def percent_of(part: float | None, whole: float | None) -> int:
    """How much of ``whole`` is ``part``, 0 to 100."""
    return min(100, round(100 * (part or 0) / whole)) if whole else 0


@register.filter
def command_line(words: Sequence[str]) -> str:
    """A command as one would type it into a shell."""
    return shlex.join(str(word) for word in words)


@register.simple_tag
def meter(percent: float | None, label: str | Promise, text: str = "") -> SafeString:
    """A usage bar with its number beside it; the number is what a screen reader reads."""
    if percent is None:
        return format_html('<span class="text-secondary">{}</span>', _("not known"))
    whole = round(percent)
    level = "high" if whole >= 90 else "middle" if whole >= 75 else "low"
    return format_html(
        '<meter class="meter meter-{}" min="0" max="100" value="{}" aria-label="{}"></meter>'
        '<span class="meter-text">{}</span>',
        level,
        whole,
        label,
        text or f"{whole} %",
    )
