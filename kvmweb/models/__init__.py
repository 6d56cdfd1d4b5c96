from kvmweb.models.access import ApiToken, Privilege, Role, User
from kvmweb.models.console import ConsoleSession, ConsoleTicket, Level
from kvmweb.models.hosts import Acceleration, Agent, Host, HostState, NodeDevice
from kvmweb.models.jobs import Job, JobState
from kvmweb.models.machines import Machine, State
from kvmweb.models.networks import Network
from kvmweb.models.storage import Pool, Volume

__all__ = [
    "Acceleration",
    "Agent",
    "ApiToken",
    "ConsoleSession",
    "ConsoleTicket",
    "Host",
    "HostState",
    "Job",
    "JobState",
    "Level",
    "Machine",
    "Network",
    "NodeDevice",
    "Pool",
    "Privilege",
    "Role",
    "State",
    "User",
    "Volume",
]
