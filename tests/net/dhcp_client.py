"""Asks for an address by DHCP (RFC 2131) on a link, and prints what it got as JSON.

python dhcp_client.py LINK [NAME]
"""

import fcntl
import ipaddress
import json
import os
import socket
import struct
import sys
from typing import Any

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
MASK, ROUTER, DNS, HOST_NAME, DOMAIN, MTU, ASKED, LEASE, KIND, SERVER, WISHES = (
    1, 3, 6, 12, 15, 26, 50, 51, 53, 54, 55,
)  # fmt: skip
COOKIE = bytes([99, 130, 83, 99])
BROADCAST_FLAG = 0x8000
SIOCGIFHWADDR = 0x8927


def options(packet: bytes) -> dict[int, bytes]:
    found, at = {}, 240
    while at < len(packet) and packet[at] != 255:
        if packet[at]:
            length = packet[at + 1]
            found[packet[at]] = packet[at + 2 : at + 2 + length]
            at += length + 1
        at += 1
    return found


def ask(wire: socket.socket, mac: bytes, given: dict[int, bytes]) -> tuple[str, dict[int, bytes]]:
    number = os.urandom(4)
    head = bytes([1, 1, 6, 0]) + number + struct.pack(">HH", 0, BROADCAST_FLAG)
    body = b"".join(bytes([kind, len(value)]) + value for kind, value in given.items())
    wire.sendto(head + bytes(16) + mac.ljust(208, b"\0") + COOKIE + body + b"\xff", TO)
    while True:
        packet = wire.recv(2000)
        if packet[4:8] == number:
            return str(ipaddress.ip_address(packet[16:20])), options(packet)


TO = ("255.255.255.255", 67)


def main(link: str, name: str = "") -> None:
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    wire.bind(("", 68))
    wire.settimeout(8)
    mac = fcntl.ioctl(wire, SIOCGIFHWADDR, struct.pack("256s", link.encode()))[18:24]
    wishes = bytes([MASK, ROUTER, DNS, DOMAIN, MTU])
    named = {HOST_NAME: name.encode()} if name else {}
    offered, offer = ask(wire, mac, {KIND: bytes([DISCOVER]), WISHES: wishes, **named})
    address = ipaddress.ip_address(offered).packed
    wanted = {KIND: bytes([REQUEST]), ASKED: address, SERVER: offer[SERVER], WISHES: wishes}
    got, answer = ask(wire, mac, {**wanted, **named})
    assert answer[KIND] == bytes([ACK]), answer
    print(json.dumps({"address": got, **told(answer)}))


def told(answer: dict[int, bytes]) -> dict[str, Any]:
    def address(kind: int) -> str | None:
        return str(ipaddress.ip_address(answer[kind][:4])) if kind in answer else None

    return {
        "mask": address(MASK),
        "router": address(ROUTER),
        "dns": address(DNS),
        "domain": answer.get(DOMAIN, b"").decode(),
        "mtu": int.from_bytes(answer.get(MTU, b""), "big"),
        "seconds": int.from_bytes(answer[LEASE], "big"),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
