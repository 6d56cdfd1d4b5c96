"""Open vSwitch: bridges, ports, mirrors, QoS, flow export, tables, flows, MACs."""

from kvmweb.net.ovs.offloads import needs_checksum_off, tunnel_mtu
from kvmweb.net.ovs.plan import plan
from kvmweb.net.ovs.state import read

__all__ = ["needs_checksum_off", "plan", "read", "tunnel_mtu"]
