"""The verbs. Importing this package registers every operation."""

from kvmweb.operations import creation, hosts, jobs, machines
from kvmweb.operations.operation import OPERATIONS, of_noun

__all__ = ["OPERATIONS", "creation", "hosts", "jobs", "machines", "of_noun"]
