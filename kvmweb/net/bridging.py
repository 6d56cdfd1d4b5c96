"""Whether the host's iptables see the packets that its bridges pass on, as libvirt's filters for IP
need: Documentation/networking/ip-sysctl.rst, bridge-nf-call-iptables.

In ``actual["bridging"]``: ``iptables`` and ``ip6tables``, each true, false or null. Null: the
module br_netfilter is not loaded yet; libvirt's first rule loads it, and then they see them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvmweb.net.calls import call
from kvmweb.net.context import Context
from kvmweb.net.errors import StepError

SWITCHES = Path("/proc/sys/net/bridge")
PROGRAMS = ("iptables", "ip6tables")


def read(context: Context) -> dict[str, Any]:
    return {"bridging": {program: _sees(program) for program in PROGRAMS}}


def plan(context: Context, actual: Any, desired: Any, owned: Any) -> list[Any]:
    """No document says anything of it."""
    return []


@call("bridging.show")
def show(context: Context) -> dict[str, Any]:
    """Have both see them, until the host restarts."""
    for program in PROGRAMS:
        if _sees(program) is False:
            try:
                _switch(program).write_text("1\n")
            except OSError as error:
                raise StepError(f"The kernel's switch can't be set: {error.strerror}.") from None
    return read(context)


def _switch(program: str) -> Path:
    return SWITCHES / f"bridge-nf-call-{program}"


def _sees(program: str) -> bool | None:
    try:
        return _switch(program).read_text().strip() != "0"
    except OSError:
        return None
