"""A tiny guest under test: its domain document, its serial line, its keyboard."""

import os
import re
import select
import time
import tty
from collections.abc import Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

import libvirt
from lxml import etree

from kvmweb.tiny_guest import MEMORY_MIB, TinyGuest

DOMAIN = """
<domain type='qemu'>
  <name/><memory unit='MiB'/><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' autoport='yes' listen='127.0.0.1'/>
    <video><model type='vga'/></video>
  </devices>
</domain>
"""
LETTERS = {" ": "SPACE", "\n": "ENTER", "/": "SLASH", "-": "MINUS", ".": "DOT"}
SHIFTED = {">": "DOT", "_": "MINUS"}


def domain_xml(
    name: str,
    *,
    guest: TinyGuest | None = None,
    devices: Iterable[str] = (),
    addresses: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """With direct kernel boot of ``guest``, else booting from its first bootable device.

    ``addresses``: of cards that are not to ask for one by DHCP, {"eth0": "10.0.0.5/24,GATEWAY"}.
    """
    domain = etree.fromstring(DOMAIN)
    domain.find("name").text = name
    domain.find("memory").text = str(MEMORY_MIB)
    fixed = [f"lab.{card}={address}" for card, address in addresses.items()]
    if guest:
        for tag, text in (
            ("kernel", str(guest.kernel)),
            ("initrd", str(guest.initrd)),
            ("cmdline", " ".join([guest.command_line, f"lab.name={name}", *fixed])),
        ):
            etree.SubElement(domain.find("os"), tag).text = text
    domain.find("devices").extend(etree.fromstring(device) for device in devices)
    return etree.tostring(domain, encoding="unicode")


class Serial:
    """The guest's first serial port, through the pseudo terminal that QEMU made for it."""

    def __init__(self, domain: libvirt.virDomain) -> None:
        document = etree.fromstring(domain.XMLDesc())
        path = document.find("devices/serial/source").get("path")
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._descriptor)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def send(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def expect(self, pattern: str, *, seconds: float = 60) -> re.Match[str]:
        """The first match; what came before and with it is used up."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text)):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError(f"no {pattern!r} in {self.text[-2000:]!r}")
            self.text += os.read(self._descriptor, 65536).decode(errors="replace")
        self.text = self.text[match.end() :]
        return match


class Guest(Serial):
    """The shell on the serial line of a running tiny guest."""

    _number = 0

    def wait(self) -> None:
        """Until it is up."""
        self.expect("LAB-GUEST-READY")

    def run(self, command: str, *, seconds: float = 30) -> tuple[str, int]:
        """What the command printed, and how it ended."""
        self._number += 1
        number = self._number
        # The shell shows what it is sent, where these marks have no number yet.
        self.send(f"printf '{{%s}}\\n' {number}; {command}; printf '<%s>{number}\\n' $?\n")
        said = self.expect(rf"(?s)\{{{number}\}}\r?\n(.*?)<(\d+)>{number}\r?\n", seconds=seconds)
        return said[1].replace("\r", ""), int(said[2])

    def address(self, card: str) -> str:
        """The IPv4 address that it has by now, or "" """
        said = self.run(f"ip -4 -o address show dev {card}")[0]
        return found[1] if (found := re.search(r"inet ([\d.]+)/", said)) else ""

    def pings(self, address: str, *, card: str = "", seconds: int = 5) -> bool:
        """Whether an answer comes in that time."""
        through = f"-I {card} " if card else ""
        return self.run(f"ping -c 1 -W {seconds} {through}{address}")[1] == 0

    def fetches(self, address: str, *, port: int = 80, seconds: int = 5) -> str:
        """The last line that a web server there answers with by TCP in that time, or "" """
        ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'"
        said, _ = self.run(f"{ask} | nc -w {seconds} {address} {port} 2>/dev/null | tail -1")
        return said.strip()


def type_keys(domain: libvirt.virDomain, text: str) -> None:
    """Press the keys of a US keyboard, one after the other."""
    for letter in text:
        name = SHIFTED.get(letter) or LETTERS.get(letter) or letter.upper()
        keys = [_code(name)]
        if letter in SHIFTED or letter.isupper():
            keys.insert(0, _code("LEFTSHIFT"))
        domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 20, keys, len(keys), 0)


def _code(name: str) -> int:
    # From linux/input-event-codes.h.
    rows = {2: "1234567890", 16: "QWERTYUIOP", 30: "ASDFGHJKL", 44: "ZXCVBNM"}
    named = {"ENTER": 28, "LEFTSHIFT": 42, "SPACE": 57, "SLASH": 53, "MINUS": 12, "DOT": 52}
    if name in named:
        return named[name]
    return next(first + row.index(name) for first, row in rows.items() if name in row)
