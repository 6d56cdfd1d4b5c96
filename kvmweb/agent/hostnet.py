"""One thread per host that keeps a network helper running there, and the mirror true.

It holds up nobody else: what hangs here is this host's network only.
"""

import logging
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import Host, HostNetwork, Job, JobState
from kvmweb.models.jobs import UNFINISHED
from kvmweb.models.live import announce
from kvmweb.net import launch
from kvmweb.net.client import Client
from kvmweb.net.errors import NetError

logger = logging.getLogger(__name__)

# Seconds. What the helper tells is gathered for so long, to be read once.
GATHER = 0.03
SAMPLE_EVERY, READ_AGAIN_EVERY = 5.0, 60.0
# While a change waits for confirmation; the host may revert it by itself.
WAITING_EVERY = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
DRIVERS = ("qemu", "xen")


def has_network(host: Host) -> bool:
    """Whether the host is a computer, and not libvirt's test driver."""
    return urlsplit(host.uri).scheme.partition("+")[0] in DRIVERS


class NetLink(threading.Thread):
    """Keeps the helper of one host running until ``stop``. ``when_asked``: there is a job."""

    def __init__(self, host: Host, *, when_asked: Callable[[], None]) -> None:
        super().__init__(name=f"network of {host.name}", daemon=True)
        self.host = host
        self._when_asked = when_asked
        self._news = threading.Event()
        self._topics: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve()
            except NetError as error:
                self._tell(error.sentence)
            except DatabaseError:
                logger.exception("%s: could not save its network", self.host.name)
            close_old_connections()
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _tell(self, sentence: str) -> None:
        if Host.objects.filter(pk=self.host.pk).exists():
            mirror.write_problem(self.host.pk, sentence)

    def _serve(self) -> None:
        """Until the helper ends or we are stopped. Raises ``NetError``."""
        how = _launch(self.host)
        client = Client(how, on_event=self._heard, on_end=self._news.set)
        try:
            client.call("watch")
            self._begin(client)
            mirror.keep(self.host.pk, client)
            self._follow(client)
        finally:
            mirror.forget(self.host.pk)
            client.close()
        if not self._stopping.is_set():
            raise NetError("The helper on the host has ended. It is started again by itself.")

    def _begin(self, client: Client) -> None:
        mirror.settle(self.host.pk, client)
        mirror.read(self.host.pk, client)
        identity = f"{client.hello.get('boot', '')} {client.hello.get('namespace', '')}".strip()
        row = HostNetwork.objects.get(host=self.host.pk)
        HostNetwork.objects.filter(pk=row.pk).update(identity=identity)
        if row.identity and row.identity != identity and row.drift:
            self._make_again()

    def _make_again(self) -> None:
        """The host has rebooted: what we made is gone, and is made again. By a job, as all is."""
        logger.info("%s has rebooted: its network is made again", self.host.name)
        kind = "hostnet.put_back"
        if Job.objects.filter(kind=kind, host=self.host.pk, state__in=UNFINISHED).exists():
            return
        job = Job.objects.create(
            kind=kind,
            username="kvmweb",
            host_id=self.host.pk,
            target_type="host",
            target_key=str(self.host.pk),
            target_name=self.host.name,
            state=JobState.QUEUED,
        )
        announce(*job.topics)
        self._when_asked()

    def _heard(self, topic: str) -> None:
        with self._lock:
            self._topics.add(topic)
        self._news.set()

    def _taken(self) -> list[str]:
        self._news.clear()
        with self._lock:
            taken, self._topics = sorted(self._topics), set()
        return taken

    def _follow(self, client: Client) -> None:
        sampled = read = time.monotonic()
        is_waiting = mirror.settle(self.host.pk, client)
        while client.is_alive and not self._stopping.is_set():
            self._news.wait(WAITING_EVERY if is_waiting else _until(sampled + SAMPLE_EVERY))
            if self._news.is_set():
                time.sleep(GATHER)
            parts, now = _parts(self._taken()), time.monotonic()
            if not client.is_alive or self._stopping.is_set():
                return
            is_waiting = mirror.settle(self.host.pk, client)
            if now - read > READ_AGAIN_EVERY:
                mirror.read(self.host.pk, client)
                read = now
            elif parts:
                mirror.read(self.host.pk, client, parts)
            if now - sampled >= SAMPLE_EVERY:
                mirror.sample(self.host.pk, client)
                sampled = now
            close_old_connections()


def _until(moment: float) -> float:
    return max(0.0, moment - time.monotonic())


def _parts(topics: list[str]) -> list[str]:
    """What to read again. Links within routers are read with the host's."""
    return sorted({*topics, "links"}) if "routers" in topics else topics


def _launch(host: Host) -> launch.Launch:
    how = launch.by_uri(host.uri)
    is_local = how.archive is None
    return launch.here(settings.NET_PREFIX) if is_local and settings.NET_PREFIX else how
