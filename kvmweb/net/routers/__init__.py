"""Routers: network namespaces with named legs, translations and filters, and dnsmasq.

state.py      what is there, ``read``; what a router's legs and routes are, ``join``
checks.py     what can't be, as sentences
plan.py       the steps in between
namespace.py  the namespace itself; legs.py its interfaces; rules.py nftables; dhcp.py dnsmasq
"""

from kvmweb.net.routers.plan import plan
from kvmweb.net.routers.state import document, join, leases, read

__all__ = ["document", "join", "leases", "plan", "read"]
