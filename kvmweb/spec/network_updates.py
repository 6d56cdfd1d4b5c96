"""What turns a running network's document into another, as far as libvirt can do that without a
restart: virNetworkUpdate, https://libvirt.org/html/libvirt-libvirt-network.html#virNetworkUpdate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from kvmweb.spec.mapped import remove
from kvmweb.spec.network_places import USUAL_NAT_PORTS, AtAddress, AtMode
from kvmweb.spec.xml import Tree, parse

Command = Literal["add-last", "delete", "modify"]
Key = Callable[[Tree], str | None]


@dataclass(frozen=True, slots=True)
class Update:
    """In virsh's words. ``parent``: which ``<ip>`` it is about, -1 for those about none."""

    command: Command
    section: str
    xml: str
    parent: int = -1


def _never(element: Tree) -> None:
    """Libvirt can't change these, only add and delete."""
    return


_SECTIONS: list[tuple[str, str, Key]] = [
    ("dns-host", "dns/host", _never),
    ("dns-txt", "dns/txt", _never),
    ("dns-srv", "dns/srv", _never),
    ("portgroup", "portgroup", lambda element: element.get("name")),
]
_OF_IP: list[tuple[str, str, Key]] = [
    ("ip-dhcp-range", "dhcp/range", _never),
    ("ip-dhcp-host", "dhcp/host", lambda element: element.get("mac")),
]
# In the other modes libvirt changes the document, and leaves its firewall rules as they are.
_INTERFACES: tuple[str, str, Key] = ("forward-interface", "forward/interface", _never)


def live_updates(before: str, after: str) -> list[Update]:
    """The first document is the running network's; both as libvirt gave them."""
    old, new = _settled(before), _settled(after)
    found = [one for section in _sections(old) for one in _differences(old, new, section, -1)]
    pairs = zip(old.findall("ip"), new.findall("ip"), strict=False)
    for number, (old_ip, new_ip) in enumerate(pairs):
        if AtAddress().get(old_ip) == AtAddress().get(new_ip):
            for section in _OF_IP:
                found.extend(_differences(old_ip, new_ip, section, number))
    return found


def needs_restart(before: str, after: str) -> bool:
    """Whether something differs that ``live_updates`` can't bring about."""
    return _rest(before) != _rest(after)


def is_same(one: str, other: str) -> bool:
    """Whether two documents say the same, but for what only a running network's has."""
    return _canonical(_settled(one)) == _canonical(_settled(other))


def _sections(old: Tree) -> list[tuple[str, str, Key]]:
    is_macvtap = AtMode().get(old).startswith("macvtap")
    return [*_SECTIONS, _INTERFACES] if is_macvtap else _SECTIONS


def _differences(
    old: Tree, new: Tree, section: tuple[str, str, Key], parent: int
) -> Iterator[Update]:
    name, path, key = section
    before = {_canonical(one): one for one in old.findall(path)}
    after = {_canonical(one): one for one in new.findall(path)}
    gone = [one for text, one in before.items() if text not in after]
    fresh = [one for text, one in after.items() if text not in before]
    changed = {key(one) for one in gone} & {key(one) for one in fresh} - {None}
    # What goes first makes room: two reservations can't have one address, nor two ranges meet.
    for one in gone:
        if key(one) not in changed:
            yield Update("delete", name, _line(one), parent)
    for one in fresh:
        command: Command = "modify" if key(one) in changed else "add-last"
        yield Update(command, name, _line(one), parent)


def _rest(text: str) -> str:
    """The document without what can be changed while the network runs."""
    tree = _settled(text)
    for _name, path, _key in _sections(tree):
        for one in tree.findall(path):
            remove(one, tree)
    for ip in tree.findall("ip"):
        for _name, path, _key in _OF_IP:
            for one in ip.findall(path):
                remove(one, ip)
    return _canonical(tree)


def _settled(text: str) -> Tree:
    """Without what libvirt adds while the network runs: connections, the ports NAT uses where none
    are given, and an SR-IOV pool's VFs.
    """
    tree = parse(text)
    for ports in tree.findall("forward/nat/port"):
        if (ports.get("start"), ports.get("end")) == USUAL_NAT_PORTS:
            remove(ports, tree)
    for element in tree.iter("network", "interface", "address"):
        element.attrib.pop("connections", None)
    if tree.find("forward/pf") is not None:
        for vf in [*tree.findall("forward/interface"), *tree.findall("forward/address")]:
            remove(vf, tree)
        tree.find("forward").attrib.pop("dev", None)  # type: ignore[union-attr]
    return tree


def _canonical(element: Tree) -> str:
    text = etree.tostring(element, encoding="unicode", with_tail=False)
    return etree.canonicalize(text, strip_text=True)


def _line(element: Tree) -> str:
    """On one line, as one types it after ``virsh net-update``."""
    return etree.tostring(etree.fromstring(_canonical(element)), encoding="unicode")
