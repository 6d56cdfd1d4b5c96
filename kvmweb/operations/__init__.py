"""The verbs. Importing this package registers every operation."""

from kvmweb.operations import hosts, jobs, machines
from kvmweb.operations.operation import OPERATIONS, of_noun

__all__ = ["OPERATIONS", "hosts", "jobs", "machines", "of_noun"]
