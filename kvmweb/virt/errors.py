"""Libvirt's errors as sentences: what happened, why, what to do.

The table is ours; the codes are https://libvirt.org/html/libvirt-virterror.html#virErrorNumber.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt


class OperationError(Exception):
    """Why an operation failed, for the person at the screen.

    ``field`` names the argument to blame, if one is. ``detail`` is libvirt's own wording.
    """

    def __init__(self, sentence: object, *, field: str = "", detail: str = "") -> None:
        super().__init__(str(sentence))
        self.sentence = str(sentence)
        self.field = field
        self.detail = detail


# (code, pattern in libvirt's message, sentence); the first that fits is taken. {0} is the message,
# {1}.. are the pattern's groups.
_TABLE: list[tuple[int | None, str, str]] = [
    (
        libvirt.VIR_ERR_NO_DOMAIN,
        "",
        "The machine is not there any more: somebody removed it outside this page.",
    ),
    (
        libvirt.VIR_ERR_NO_NETWORK,
        r"network.*'(.+)'",
        "There is no virtual network “{1}” on this host. Choose another, or create it.",
    ),
    (
        libvirt.VIR_ERR_NO_NWFILTER,
        r"(?:filter|nwfilter).*'(.+)'",
        "There is no network filter “{1}” on this host. Choose another, or create it.",
    ),
    (
        None,
        r"referenced filter '(.+)' is missing",
        "The network filter “{1}” is used but missing on this host. Create it, or do not use it.",
    ),
    (
        None,
        r"nwfilter is in use",
        "A machine or another filter uses this network filter. Let them use another one first.",
    ),
    (
        None,
        r"filter would introduce a loop",
        "The filter would use itself, directly or through another one. Use a different filter.",
    ),
    (
        None,
        r"unresolvable variables or unavailable list elements: (.+)",
        "A running machine uses this filter without a value for {1}. Give its NIC that value, or "
        "leave the variable out.",
    ),
    (
        None,
        r"network '(.+)' is not active",
        "The virtual network “{1}” is not active. Start it, then try again.",
    ),
    (
        None,
        r"Network is already in use by interface (\S+)",
        "The host's link {1} has addresses of this subnet already. Choose another subnet.",
    ),
    (
        None,
        r"bridge name '(.+)' already in use",
        "The host has a link “{1}” already. Choose another name for the bridge.",
    ),
    (
        None,
        r"dnsmasq: (.+?) at line \d+ of \S+",
        "dnsmasq does not take an option of this network: {1}.",
    ),
    (
        None,
        r"tc qdisc add.*(?:qdisc kind is unknown|No such file)",
        "This host's kernel can't hold traffic to a rate: it lacks a queueing discipline (sch_sfq "
        "or sch_htb). Leave the rates empty.",
    ),
    (
        None,
        r"network '(.+)' (?:already exists|is already defined) with uuid",
        "A network with the name “{1}” is already there. Choose another name.",
    ),
    (
        libvirt.VIR_ERR_DOM_EXIST,
        r"domain '(.+)' (?:already exists|is already defined)",
        "A machine with the name “{1}” is already there. Choose another name.",
    ),
    (
        None,
        r"domain '(.+)' already exists with uuid",
        "A machine with the name “{1}” is already there. Choose another name.",
    ),
    (
        None,
        r"tc (?:qdisc|class|filter) .*(?:Specified qdisc kind is unknown|No such file)",
        "The host's kernel lacks a traffic shaper that limits of bandwidth need there (sch_htb, "
        "sch_sfq, sch_ingress, act_police). Load these modules, or set no limit.",
    ),
    (
        None,
        r"[Cc]annot find 'passt'|passt.*(?:No such file|not found)",
        "The program passt is not on this host. Install it there, or choose another source.",
    ),
    (
        None,
        r"domain is already running",
        "The machine is already running.",
    ),
    (
        None,
        r"domain is not running",
        "The machine is not running.",
    ),
    (
        None,
        r"(?:Could not open|Cannot access storage file) '([^']+)'.*(?:Permission denied)",
        "QEMU may not read {1}. Let the user QEMU runs as (often libvirt-qemu) read the file and "
        "search every folder above it, or move the file into a storage pool.",
    ),
    (
        None,
        r"(?:Could not open|Cannot access storage file) '([^']+)'.*(?:No such file)",
        "The file {1} is missing. Put it back, or choose another disk image.",
    ),
    (
        None,
        r'Failed to get (?:shared )?"?(?:write|consistent read)"? lock',
        "Another running machine uses the same disk image. Shut that machine down, or give this "
        "one a disk of its own.",
    ),
    (
        None,
        r"cannot set up guest memory|Cannot allocate memory",
        "The host has not enough free memory for this machine. Give it less, or stop another.",
    ),
    (
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        r"cannot acquire state change lock",
        "The machine is busy with another operation. Wait until that has ended, then try again.",
    ),
    (
        libvirt.VIR_ERR_AUTH_FAILED,
        "",
        "The host refused the sign-in. Check the user name in the URI and its key or password.",
    ),
    (
        libvirt.VIR_ERR_ACCESS_DENIED,
        "",
        "The host does not allow this to the user the site connects as.",
    ),
    (
        libvirt.VIR_ERR_NO_CONNECT,
        "",
        "No driver of libvirt takes this URI. Check the part before “://”.",
    ),
    (
        None,
        r"(?:[Ff]ailed to connect socket to|connect to) '([^']+)'.*No such file",
        "No libvirt daemon listens at {1}. Start it on the host: systemctl start libvirtd.",
    ),
    (
        None,
        r"(?:[Ff]ailed to connect socket to|connect to) '([^']+)'.*Permission denied",
        "The site's user may not open {1}. Add that user to the group libvirt and start again.",
    ),
    (
        None,
        r"[Cc]onnection refused",
        "Nothing listens at that address: the host refused the connection. Start libvirt's daemon "
        "there and check address and port.",
    ),
    (
        None,
        r"No route to host|Network is unreachable",
        "There is no network path to that host. Check the address and the network between.",
    ),
    (
        None,
        r"unable to resolve|Name or service not known|Temporary failure in name resolution",
        "The host's name can't be resolved. Check its spelling, or use its address.",
    ),
    (
        None,
        r"Host key verification failed",
        "The host's ssh key is not known yet. Sign in there once by ssh as the site's user, "
        "compare the key, and accept it.",
    ),
    (
        None,
        r"Permission denied \(publickey",
        "The host refused the site's ssh key. Add the public key to ~/.ssh/authorized_keys there.",
    ),
    (
        None,
        r"keepalive|client socket is closed|Connection reset|End of file while reading|Broken pipe"
        r"|Cannot recv data|Cannot write data",
        "The connection to the host was lost. It is opened again by itself.",
    ),
]


def explain(error: libvirt.libvirtError) -> OperationError:
    """The sentence for a libvirt error; libvirt's own words where the table has none."""
    message = error.get_error_message() or str(error)
    for code, pattern, sentence in _TABLE:
        if code is not None and code != error.get_error_code():
            continue
        found = re.search(pattern, message, re.DOTALL)
        if found:
            text = sentence.format(message, *(group or "" for group in found.groups()))
            return OperationError(text, detail=message)
    return OperationError(f"Libvirt says: {message}", detail=message)


@contextmanager
def translated() -> Iterator[None]:
    """Turn libvirt's exceptions into ``OperationError``."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise explain(error) from error
