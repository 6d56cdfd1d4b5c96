"""The verbs. Importing this package registers every operation."""

from kvmweb.operations import (
    creation,
    filters,
    hostnet,
    hosts,
    jobs,
    machines,
    networks,
    nics,
    security_groups,
)
from kvmweb.operations.operation import OPERATIONS, of_noun

__all__ = [
    "OPERATIONS",
    "creation",
    "filters",
    "hostnet",
    "hosts",
    "jobs",
    "machines",
    "networks",
    "nics",
    "of_noun",
    "security_groups",
]
