"""One thread per host: it connects, mirrors, hears what changed, and connects again."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import libvirt
from django.db import DatabaseError, close_old_connections

from kvmweb import mirror
from kvmweb.agent import acceleration, addresses, emulator, events, hostnet, sampler
from kvmweb.mirror.hosts import write_acceleration, write_nic_models, write_state, write_usage
from kvmweb.mirror.names import Name, names_of
from kvmweb.models import Acceleration, Host, HostState
from kvmweb.virt import connections
from kvmweb.virt.errors import OperationError, explain

logger = logging.getLogger(__name__)

# Seconds. Some changes have no event (autostart, a device added to the inactive document only).
READ_AGAIN_EVERY = 60
SAMPLE_EVERY = 5
LEASES_EVERY = 5
FIRST_PAUSE, LONGEST_PAUSE = 1, 30
OPEN_ANEW_AFTER = 600
STUCK_AFTER = 120


class HostLink(threading.Thread):
    """Keeps one host connected and its mirror true until ``stop``."""

    def __init__(self, host: Host, *, when_settled: Callable[[], None]) -> None:
        super().__init__(name=f"host {host.name}", daemon=True)
        self.host = host
        self.heard = time.monotonic()
        self.names = names_of(host.pk)
        self.is_settled = threading.Event()  # connected, or known not to be
        self._when_settled = when_settled
        self._stopping = threading.Event()
        self._opening: connections.Opening | None = None
        self._lost = ""
        self._network: hostnet.NetLink | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether it has not come back from a call to libvirt for too long."""
        return time.monotonic() - self.heard > STUCK_AFTER

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                opened = self._open()
            except OperationError as error:
                self._unreachable(error.sentence)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._serve(opened)
            if not self._stopping.is_set():
                self._stopping.wait(FIRST_PAUSE)
        if self._network:
            self._network.join(5)

    def _open(self) -> libvirt.virConnect:
        """An attempt that got no answer is waited for again, and replaced only after long: each
        costs a thread until the other side answers or the kernel gives up.
        """
        self.heard = time.monotonic()
        opening = self._opening
        if opening and time.monotonic() - opening.started > OPEN_ANEW_AFTER:
            opening.abandon()
            opening = None
        self._opening = opening = opening or connections.Opening(self.host.uri)
        try:
            return opening.wait()
        finally:
            if not opening.is_alive():
                self._opening = None

    def stop(self) -> None:
        """Ask the thread to end; it closes its connection on the way out."""
        self._stopping.set()
        self.names.wake()
        if self._network:
            self._network.stop()

    def _serve(self, opened: libvirt.virConnect) -> None:
        self._lost = ""
        try:
            opened.registerCloseCallback(self._closed, None)
            events.listen(opened, self.host.pk)
            connections.keep(self.host.pk, self.host.uri, opened)
            mirror.everything(self.host, opened)
            write_state(self.host, HostState.CONNECTED)
            self._settled()
            self._follow_network()
            with addresses.watched(self.host):
                self._follow(opened)
        except libvirt.libvirtError as error:
            self._lost = self._lost or explain(error).sentence
        finally:
            connections.forget(self.host.pk, opened)
            _close(opened)
            if not self._stopping.is_set():
                self._unreachable(self._lost or "The connection to the host was lost.")

    def _follow(self, opened: libvirt.virConnect) -> None:
        """Look again at what has a reason to be looked at, until the connection is lost."""
        clock = _Clock()
        sample = sampler.Sampler(opened)
        if self.host.acceleration == Acceleration.UNKNOWN or emulator.is_news(self.host):
            threading.Thread(target=self._probe, name="probe", daemon=True).start()
        while opened.isAlive() and not self._lost and not self._stopping.is_set():
            for name in self.names.take(clock.until_next()):
                if name.kind != "wake":
                    self._read(opened, name)
            self.heard = time.monotonic()
            if clock.is_due("sample", SAMPLE_EVERY):
                write_usage(self.host, sample.take())
            if clock.is_due("leases", LEASES_EVERY):
                self._read(opened, Name("leases"))
            if clock.is_due("everything", READ_AGAIN_EVERY):
                self._read(opened, Name("everything"))
                write_state(self.host, HostState.CONNECTED)
            close_old_connections()

    def _read(self, opened: libvirt.virConnect, name: Name) -> None:
        try:
            mirror.read(self.host, opened, name)
        except DatabaseError:
            # Another process held the database too long, or the host was just removed.
            logger.exception("%s: could not save %s", self.host.name, name)
            if Host.objects.filter(pk=self.host.pk).exists():
                self.names.put(name)
        except libvirt.libvirtError:
            if not opened.isAlive():
                raise
            logger.warning("%s: could not read %s", self.host.name, name, exc_info=True)

    def _follow_network(self) -> None:
        """From the first time the host answers, and on while libvirt's daemon there does not."""
        if self._network is None and hostnet.has_network(self.host):
            self._network = hostnet.NetLink(self.host, when_asked=self._when_settled)
            self._network.start()

    def _probe(self) -> None:
        with contextlib.suppress(OperationError):  # the host is gone again: it is tried next time
            opened = connections.connection(self.host.pk)
            if emulator.is_news(self.host) and (models := emulator.nic_models(opened, self.host)):
                write_nic_models(self.host, models)
            if self.host.acceleration == Acceleration.UNKNOWN:
                found = acceleration.probe(opened, self.host.domain_capabilities)
                if not self._stopping.is_set():
                    write_acceleration(self.host, found)
        close_old_connections()

    def _closed(self, opened: libvirt.virConnect, reason: int, opaque: object) -> None:
        self._lost = _REASONS.get(reason, "The connection to the host was lost.")
        self.names.wake()

    def _unreachable(self, sentence: str) -> None:
        write_state(self.host, HostState.UNREACHABLE, sentence)
        self._settled()

    def _settled(self) -> None:
        self.is_settled.set()
        self._when_settled()


class _Clock:
    """When the things done on a clock were last done. All start as just done."""

    def __init__(self) -> None:
        self._done: dict[str, float] = {}
        self._started = time.monotonic()

    def is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now - self._done.get(what, self._started) < every:
            return False
        self._done[what] = now
        return True

    def until_next(self) -> float:
        last = max(self._done.get("sample", self._started), self._started)
        return max(0.0, last + SAMPLE_EVERY - time.monotonic())


# https://libvirt.org/html/libvirt-libvirt-common.html#virConnectCloseReason
_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "The connection to the host broke.",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "Libvirt's daemon on the host ended the connection: it "
    "was stopped, restarted or killed.",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "Libvirt's daemon on the host does not answer any "
    "more: it hangs, or the network between is cut.",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "The site closed the connection.",
}


def _close(opened: libvirt.virConnect) -> None:
    try:
        opened.unregisterCloseCallback()
        opened.close()
    except libvirt.libvirtError:
        pass  # there is nobody left to say goodbye to
