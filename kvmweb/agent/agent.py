"""The agent: holds hosts by a lease, keeps them connected, runs their jobs."""

import contextlib
import fcntl
import logging
import threading
import time
from datetime import timedelta
from pathlib import Path

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.db.models import Q
from django.utils import timezone

from kvmweb.agent import worker
from kvmweb.agent.hosts import HostLink
from kvmweb.models import Agent as AgentRow
from kvmweb.models import Host, Job
from kvmweb.models.jobs import ONE_BY_ONE
from kvmweb.models.live import AGENTS, run_in_loop
from kvmweb.operations import security_groups

logger = logging.getLogger(__name__)

HEARTBEAT_EVERY = 5.0
LOOK_EVERY = 1.0
GROUPS_EVERY = 5.0


class AlreadyRunning(Exception):
    """Another agent of this name runs on this machine."""


class Agent:
    """``start`` returns at once; the work is done in threads until ``stop``."""

    def __init__(self, name: str = "") -> None:
        self.name = name or settings.AGENT_NAME
        self.links: dict[int, HostLink] = {}
        self.runs: dict[int | None, list[worker.Run]] = {}
        self._generations: dict[int, int] = {}
        self._lost_to_mark: set[int | None] = set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._last_beat = 0.0
        self._last_groups = 0.0

    def start(self) -> None:
        """Raises ``AlreadyRunning``."""
        self._take_lock(settings.STATE_DIR / f"agent-{self.name.replace('/', '_')}.lock")
        self._beat()
        Host.objects.filter(agent=self.name).update(agent="")
        self._lost_to_mark.add(None)
        run_in_loop(self._listen())
        self._thread.start()

    def stop(self) -> None:
        """End the threads; jobs that run are left to their own end."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(10)
        for link in self.links.values():
            link.stop()
        for link in self.links.values():
            link.join(5)
        AgentRow.objects.filter(name=self.name).delete()
        Host.objects.filter(agent=self.name).update(agent="")
        self._lock.close()

    def wake(self) -> None:
        """Look at once whether there is something to do."""
        self._wake.set()

    def _take_lock(self, path: Path) -> None:
        """The kernel drops the lock with the process, however that ends: whoever gets it knows
        that an earlier agent of this name is dead and its jobs are lost.
        """
        stream = self._lock.enter_context(path.open("w"))
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another agent runs: {path} is locked") from None

    async def _listen(self) -> None:
        layer = get_channel_layer()
        assert layer is not None
        channel = await layer.new_channel()
        await layer.group_add(AGENTS, channel)
        while not self._stopping.is_set():
            await layer.receive(channel)
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except DatabaseError:
                logger.exception("the database did not answer; trying again")
                close_old_connections()
            self._wake.wait(LOOK_EVERY)
            self._wake.clear()

    def _look(self) -> None:
        self._beat()
        self._lease()
        self._mark_lost()
        self._keep_groups()
        for queue in [None, *self.links]:
            self._work(queue)

    def _beat(self) -> None:
        if time.monotonic() - self._last_beat < HEARTBEAT_EVERY:
            return
        self._last_beat = time.monotonic()
        AgentRow.objects.update_or_create(name=self.name, defaults={"seen": timezone.now()})

    def _lease(self) -> None:
        """Take hosts nobody holds; let go of those that are gone or changed."""
        free = Q(agent="") | ~Q(agent__in=[self.name, *self._others()])
        for host in Host.objects.filter(free):
            if Host.objects.filter(free, pk=host.pk).update(agent=self.name):
                self._lost_to_mark.add(host.pk)
        ours = {host.pk: host for host in Host.objects.filter(agent=self.name)}
        for pk in list(self.links):
            is_old = pk not in ours or self._generations[pk] != ours[pk].generation
            if is_old or self.links[pk].is_stuck:
                self.links.pop(pk).stop()
        for pk, host in ours.items():
            if pk not in self.links:
                self._generations[pk] = host.generation
                self.links[pk] = HostLink(host, when_settled=self.wake)
                self.links[pk].start()

    def _others(self) -> list[str]:
        """The names of the other agents that are alive."""
        since = timezone.now() - timedelta(seconds=AgentRow.GONE_AFTER_SECONDS)
        alive = AgentRow.objects.filter(seen__gt=since).exclude(name=self.name)
        return list(alive.values_list("name", flat=True))

    def _mark_lost(self) -> None:
        """Half-run jobs of hosts we have just taken over, once the host can be asked."""
        for queue in list(self._lost_to_mark):
            if self._is_settled(queue):
                self._lost_to_mark.discard(queue)
                mine = {run.job.pk for run in self.runs.get(queue, [])}
                jobs = Job.objects.filter(host=queue).exclude(pk__in=mine)
                worker.mark_lost(jobs if queue else jobs.exclude(agent__in=self._others()))

    def _keep_groups(self) -> None:
        """Security groups follow what changed without anybody asking: the addresses of members, a
        host that is back, a filter that somebody changed past us.
        """
        if time.monotonic() - self._last_groups < GROUPS_EVERY:
            return
        self._last_groups = time.monotonic()
        security_groups.keep([pk for pk in self.links if self._is_settled(pk)])

    def _is_settled(self, queue: int | None) -> bool:
        return queue is None or (queue in self.links and self.links[queue].is_settled.is_set())

    def _work(self, queue: int | None) -> None:
        runs = self.runs.setdefault(queue, [])
        for run in runs:
            if run.is_overdue:
                run.give_up()
                runs.remove(run)
        runs[:] = [run for run in runs if run.is_alive()]
        if not self._is_settled(queue):
            return
        while len(runs) < worker.PER_HOST:
            busy = {run.job.target_key for run in runs if run.job.target_type in ONE_BY_ONE}
            job = worker.claim(self.name, queue, busy)
            if job is None:
                return
            run = worker.Run(job, when_done=self.wake)
            runs.append(run)
            run.start()
