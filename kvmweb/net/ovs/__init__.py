"""Open vSwitch: bridges, ports, mirrors, QoS, flow export, tables, flows, MACs."""

from kvmweb.net.ovs import queries, watch
from kvmweb.net.ovs.offloads import needs_checksum_off, tunnel_mtu
from kvmweb.net.ovs.plan import plan
from kvmweb.net.ovs.state import read

# The first two are imported for what they register.
__all__ = ["needs_checksum_off", "plan", "queries", "read", "tunnel_mtu", "watch"]
