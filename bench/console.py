"""The console against websockify 0.13 and socat, in the same run.

    python bench/console.py            # prints one JSON object as its last line

What is compared: the same client program, on the same byte source, through each of them. The
source is a process that speaks RFB's handshake and then sends as many bytes as a
FramebufferUpdateRequest has pixels. The site is uvicorn (uvloop) with ``ConsoleProtocol`` in one
process, tickets issued and redeemed on SQLite; only the dialling is the bench's: TCP to the source,
which is what websockify (forking, its command line) and socat (``fork``, no websocket) do as well.
``qemu`` is the same with QEMU's own VNC server, asked for whole screens. Memory is the
proportional set size (smaps_rollup) of the process, or of all processes, by open console.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
OPEN = 500
STALLED = 10
MIB = 1024 * 1024
BULK = 512 * MIB
ROUNDS = 5
LOCALHOST = "127.0.0.1"
HELLO = b"RFB 003.008\n\1\1"
SERVER_INIT = bytes([0, 4, 0, 4, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
SERVER_INIT += bytes(4)
HANDSHAKE_BYTES = 12 + 2 + 4 + len(SERVER_INIT)


def request(pixels: int) -> bytes:
    """A FramebufferUpdateRequest; the source takes width and height as one number."""
    return bytes([3, 0, 0, 0, 0, 0]) + pixels.to_bytes(4, "big")


# ---- the source: a process that sends as much as it is asked for


def serve_source() -> None:
    listening = socket.create_server((LOCALHOST, 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=feed, args=[connection], daemon=True).start()


def feed(connection: socket.socket) -> None:
    zeroes = memoryview(bytes(MIB))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"RFB 003.008\n")
        exactly(connection, 12)
        connection.sendall(bytes([1, 1]))
        exactly(connection, 1)
        connection.sendall(bytes(4))
        exactly(connection, 1)
        connection.sendall(SERVER_INIT)
        while True:
            left = int.from_bytes(exactly(connection, 10)[6:], "big") * 4
            while left:
                left -= connection.send(zeroes[: min(left, MIB)])


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


# ---- the site: uvicorn, ConsoleProtocol and tickets; only the dialling is ours


def serve_site(port: int, target: int) -> None:
    prepare_django()
    import uvicorn

    from kvmweb.console import process
    from kvmweb.console.protocol import ConsoleProtocol

    def dial(console: object) -> socket.socket:
        return socket.create_connection((LOCALHOST, target))

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        """Pages are not what is measured here."""

    process.begin()
    uvicorn.run(
        nothing,
        host=LOCALHOST,
        port=port,
        loop="uvloop",
        ws=type("Protocol", (ConsoleProtocol,), {"dial": staticmethod(dial)}),
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
    )
    process.end()


def prepare_django() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "kvmweb.settings"
    import django

    django.setup()


class People:
    """Tickets from enough users: each may have thirty a minute, and fifty open."""

    COUNT = 60

    def __init__(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self._issued = 0
        self._members = [self._member(number) for number in range(self.COUNT)]
        self._machine = self._make_machine()

    def _member(self, number: int) -> tuple[Any, str]:
        from kvmweb.models import User
        from tests.console.site import sign_in

        user = User.objects.create(username=f"user{number}", role="operator")
        user.set_unusable_password()
        user.save()
        return user, sign_in(user)

    def _make_machine(self) -> Any:
        import uuid

        from kvmweb.models import Host, HostState, Machine, State

        host = Host.objects.create(name="bench", uri="qemu:///system", state=HostState.CONNECTED)
        return Machine.objects.create(
            host=host, uuid=uuid.uuid4(), name="bench", state=State.RUNNING, graphics="vnc", xml=""
        )

    def headers(self, port: int) -> dict[str, str]:
        """Of an upgrade request with a fresh ticket."""
        from kvmweb.operations.consoles import issue_ticket

        user, session = self._members[self._issued % self.COUNT]
        self._issued += 1
        issued = issue_ticket(user, self._machine, "control", session_key=session)
        return {
            "Sec-WebSocket-Protocol": ", ".join(issued["protocols"]),
            "Cookie": f"kvmweb_session={session}",
            "Origin": f"http://{LOCALHOST}:{port}",
        }


# ---- the client


class Raw:
    """Bytes through socat."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self.socket = socket.create_connection((LOCALHOST, port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int) -> None:
        buffer = memoryview(bytearray(256 * 1024))
        while count:
            got = self.socket.recv_into(buffer[: min(count, len(buffer))])
            if not got:
                raise ConnectionResetError
            count -= got

    def shake_hands(self) -> None:
        self.send(HELLO)
        self.receive(HANDSHAKE_BYTES)


class Browser(Raw):
    """A websocket client: upgrades, masks what it sends, takes frames apart."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        super().__init__(port, headers)
        lines = {
            "Host": f"{LOCALHOST}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"GET /websockify HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += exactly(self.socket, 1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        self._frame_left = 0

    def send(self, data: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.socket.sendall(bytes([0x82, 0x80 | len(data)]) + mask + masked)

    def receive(self, count: int) -> None:
        while count:
            if not self._frame_left:
                self._frame_left = self._next_frame()
            piece = min(count, self._frame_left)
            super().receive(piece)
            self._frame_left -= piece
            count -= piece

    def _next_frame(self) -> int:
        opcode, length = exactly(self.socket, 2)
        assert opcode == 0x82, f"frame {opcode:x}"
        if length < 126:
            return length
        return int.from_bytes(exactly(self.socket, 2 if length == 126 else 8), "big")


# ---- what is compared


class Server:
    """A process under test, and what its memory is."""

    def __init__(self, command: list[str], port: int, client: type[Raw]) -> None:
        self.port, self._client = port, client
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                socket.create_connection((LOCALHOST, port)).close()
                return
            time.sleep(0.05)
        raise TimeoutError(command)

    def headers(self) -> dict[str, str]:
        return {"Sec-WebSocket-Protocol": "binary"}

    def connect(self) -> Any:
        made = self._client(self.port, self.headers())
        made.shake_hands()
        return made

    def memory_kib(self) -> int:
        return sum(map(pss_kib, tree_of(self.process.pid)))

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


class Site(Server):
    def __init__(self, people: People, port: int, target: int) -> None:
        self.people = people
        command = [sys.executable, __file__, "--site", str(port), str(target)]
        super().__init__(command, port, Browser)

    def headers(self) -> dict[str, str]:
        return self.people.headers(self.port)


def websockify(target: int) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "websockify", f"{LOCALHOST}:{port}", f"{LOCALHOST}:{target}"]
    return Server(command, port, Browser)


def socat(target: int) -> Server:
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind={LOCALHOST},fork,reuseaddr,backlog=1024,nodelay"
    command = ["socat", "-b65536", listen, f"TCP:{LOCALHOST}:{target},nodelay"]
    return Server(command, port, Raw)


def tree_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [pid]
    for path in children:
        for child in path.read_text().split():
            found += tree_of(int(child))
    return found


def pss_kib(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0  # it has ended
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])  # type: ignore[index]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])


# ---- the measurements


def throughput(server: Server, consoles: int = 1) -> float:
    """MiB/s, all consoles together."""
    made = [server.connect() for _ in range(consoles)]
    threads = [threading.Thread(target=pull, args=[client, BULK // consoles]) for client in made]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - started
    for client in made:
        client.socket.close()
    return BULK / MIB / taken


def pull(client: Raw, count: int) -> None:
    client.send(request(count // 4))
    client.receive(count)


def latency_ms(client: Raw, times: int = 300) -> float:
    """Median of a request for one pixel and its answer."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        pull(client, 4)
        found.append(time.perf_counter() - started)
    return statistics.median(found) * 1000


def compare(servers: dict[str, Server], measure: Callable[[Server], float]) -> dict[str, float]:
    """The median of each, in turns, so that whatever else happens here meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            found[name].append(measure(server))
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def many(server: Server) -> dict[str, float]:
    """Memory per console with ``OPEN`` open at once, all of them alive."""
    warm = [server.connect() for _ in range(4)]
    for client in warm:
        client.socket.close()
    time.sleep(3)  # what is closed leaves within two seconds
    before = server.memory_kib()
    started = time.monotonic()
    made = [server.connect() for _ in range(OPEN)]
    opening = time.monotonic() - started
    for client in made:
        pull(client, 4)
    after = server.memory_kib()
    for client in made:
        client.socket.close()
    time.sleep(3)
    return {
        "kib_per_console": round((after - before) / OPEN, 1),
        "open": len(made),
        "open_all_seconds": round(opening, 2),
    }


def stalled(server: Site, undisturbed: Site) -> dict[str, Any]:
    """What browsers cost that asked for a flood and do not read; and what others notice, against
    a site that has none of them.
    """
    sites: dict[str, Server] = {"beside": server, "undisturbed": undisturbed}
    others = {name: site.connect() for name, site in sites.items()}
    compare(sites, throughput)  # both warm
    time.sleep(3)
    memory, kernel = server.memory_kib(), kernel_kib(server)
    made = [server.connect() for _ in range(STALLED)]
    for client in made:
        client.send(request(BULK // 4))
    wait_until_still(server)
    memory, kernel = server.memory_kib() - memory, kernel_kib(server) - kernel
    latencies: dict[str, list[float]] = {name: [] for name in sites}
    for _ in range(ROUNDS):
        for name, client in others.items():
            latencies[name].append(latency_ms(client))
    found = {
        "kib_per_stalled": round((memory + kernel) / STALLED, 1),
        "of_which_kernel_kib": round(kernel / STALLED, 1),
        "latency_ms": {name: round(statistics.median(them), 3) for name, them in latencies.items()},
        "mib_s": compare(sites, throughput),
    }
    for client in [*others.values(), *made]:
        client.socket.close()
    return found


def wait_until_still(server: Server) -> None:
    """Until the process has used no processor time worth naming for half a second."""
    used = -1.0
    while (now := cpu_seconds(server.process.pid)) - used > 0.02:
        used = now
        time.sleep(0.5)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kernel_kib(server: Server) -> float:
    """What the kernel holds in all of the process's sockets: queued and reserved."""
    command = ["ss", "-Htnmp", "-O"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours = [line for line in text.splitlines() if f"pid={server.process.pid}," in line]
    counts = re.findall(r"[,(](?:r|f|w|o|bl)(\d+)", "".join(ours))
    return sum(map(int, counts)) / 1024


# ---- QEMU's own VNC server


@contextlib.contextmanager
def qemu() -> Iterator[int]:
    """A machine whose firmware shows that it found nothing to boot."""
    port = free_port()
    command = ["qemu-system-x86_64", "-M", "q35,accel=tcg", "-m", "32", "-nic", "none"]
    process = subprocess.Popen(
        [*command, "-display", f"vnc={LOCALHOST}:{port - 5900}"], stderr=subprocess.DEVNULL
    )
    try:
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                socket.create_connection((LOCALHOST, port)).close()
                break
            time.sleep(0.1)
        time.sleep(3)
        yield port
    finally:
        process.terminate()
        process.wait()


def screens(server: Server, count: int = 40) -> float:
    """MiB/s of whole screens in raw encoding, one asked for after the other."""
    client = server._client(server.port, server.headers())
    client.send(HELLO)
    client.receive(12 + 2 + 4 + 4)
    name = Tail(client)
    width, height = name.size
    whole = bytes([3, 0, 0, 0, 0, 0]) + width.to_bytes(2, "big") + height.to_bytes(2, "big")
    client.send(bytes([2, 0, 0, 1, 0, 0, 0, 0]))
    started = time.monotonic()
    for _ in range(count):
        client.send(whole)
        client.receive(4 + 12 + width * height * 4)
    taken = time.monotonic() - started
    client.socket.close()
    return count * width * height * 4 / MIB / taken


class Tail:
    """The rest of QEMU's ServerInit; its screen's size is that of SeaBIOS's text mode."""

    def __init__(self, client: Raw) -> None:
        self.size = (720, 400)
        client.receive(16 + 4 + len("QEMU"))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    state = Path(tempfile.mkdtemp(prefix="kvmweb-bench-", dir="/var/tmp"))
    os.environ["KVMWEB_STATE_DIR"] = str(state)
    os.environ["KVMWEB_LOG_LEVEL"] = "WARNING"
    prepare_django()
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, state)
        people = People()
        source = subprocess.Popen(
            [sys.executable, __file__, "--source"], stdout=subprocess.PIPE, text=True
        )
        ending.callback(source.kill)
        assert source.stdout
        target = int(source.stdout.readline())
        found = measure(people, target, ending)
    print(json.dumps(found))
    sys.exit(0 if found["ok"] else 1)


def measure(people: People, target: int, ending: contextlib.ExitStack) -> dict[str, Any]:
    site = Site(people, free_port(), target)
    ending.callback(site.close)
    servers: dict[str, Server] = {
        "site": site,
        "websockify": websockify(target),
        "socat": socat(target),
    }
    for name in ("websockify", "socat"):
        ending.callback(servers[name].close)
    found: dict[str, Any] = {"mib_s": compare(servers, throughput)}
    say(found)
    found["mib_s_of_8"] = compare(servers, lambda server: throughput(server, 8))
    say(found)
    found["latency_ms"] = {name: round(latency_ms(it.connect()), 3) for name, it in servers.items()}
    say(found)
    undisturbed = Site(people, free_port(), target)
    ending.callback(undisturbed.close)
    found["stalled"] = stalled(site, undisturbed)
    say(found)
    found["many"] = {name: many(server) for name, server in servers.items()}
    say(found)
    found["qemu_mib_s"] = measure_qemu(people, ending)
    return judged(found)


def measure_qemu(people: People, ending: contextlib.ExitStack) -> dict[str, float]:
    port = ending.enter_context(qemu())
    site = Site(people, free_port(), port)
    ending.callback(site.close)
    other = websockify(port)
    ending.callback(other.close)
    return compare({"site": site, "websockify": other}, screens)


def judged(found: dict[str, Any]) -> dict[str, Any]:
    stall, many_ = found["stalled"], found["many"]
    beside, alone = (
        {what: stall[what][name] for what in ("latency_ms", "mib_s")}
        for name in ("beside", "undisturbed")
    )
    found["throughput_ratio"] = round(found["mib_s"]["site"] / found["mib_s"]["websockify"], 2)
    found["qemu_ratio"] = round(found["qemu_mib_s"]["site"] / found["qemu_mib_s"]["websockify"], 2)
    found["more_kib_per_console"] = round(
        many_["site"]["kib_per_console"] - many_["websockify"]["kib_per_console"], 1
    )
    found["checks"] = {
        "throughput at least 0.9 of websockify's": found["throughput_ratio"] >= 0.9,
        "QEMU's screens at least 0.9 of websockify's": found["qemu_ratio"] >= 0.9,
        "at most 100 KiB more per console": found["more_kib_per_console"] <= 100,
        "500 open at once": many_["site"]["open"] == OPEN,
        "a stalled browser costs under 1 MiB": stall["kib_per_stalled"] < 1024,
        "others keep their latency": beside["latency_ms"] <= alone["latency_ms"] * 1.3 + 0.1,
        "others keep their throughput": beside["mib_s"] >= alone["mib_s"] * 0.8,
    }
    found["ok"] = all(found["checks"].values())
    return found


def say(found: dict[str, Any]) -> None:
    name, value = list(found.items())[-1]
    print(f"{name}: {json.dumps(value)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", action="store_true")
    parser.add_argument("--site", nargs=2, type=int)
    asked = parser.parse_args()
    if asked.source:
        serve_source()
    elif asked.site:
        serve_site(*asked.site)
    else:
        main()
