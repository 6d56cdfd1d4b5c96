"""Routers: network namespaces with named legs, translations and filters, and dnsmasq.

state.py has what is there, checks.py what can't be, plan.py the steps in between; namespace.py the
namespace itself, legs.py its interfaces, rules.py nftables in it, dhcp.py dnsmasq.
"""

from kvmweb.net.routers.plan import plan
from kvmweb.net.routers.state import complete, document, leases, read

__all__ = ["complete", "document", "leases", "plan", "read"]
