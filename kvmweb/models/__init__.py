from kvmweb.models.access import ApiToken, Privilege, Role, User
from kvmweb.models.console import ConsoleSession, ConsoleTicket, Level
from kvmweb.models.filters import NwFilter, SecurityGroup
from kvmweb.models.hostnet import ChangeState, HostNetwork, NetworkChange
from kvmweb.models.hosts import Acceleration, Agent, Host, HostState, NodeDevice
from kvmweb.models.jobs import Job, JobState
from kvmweb.models.machines import Machine, State
from kvmweb.models.networks import Network
from kvmweb.models.nics import MacClaim, Nic
from kvmweb.models.storage import Pool, Volume

__all__ = [
    "Acceleration",
    "Agent",
    "ApiToken",
    "ChangeState",
    "ConsoleSession",
    "ConsoleTicket",
    "Host",
    "HostNetwork",
    "HostState",
    "Job",
    "JobState",
    "Level",
    "MacClaim",
    "Machine",
    "Network",
    "NetworkChange",
    "Nic",
    "NodeDevice",
    "NwFilter",
    "Pool",
    "Privilege",
    "Role",
    "SecurityGroup",
    "State",
    "User",
    "Volume",
]
