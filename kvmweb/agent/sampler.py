"""How busy a host is."""

import libvirt


class Sampler:
    """Differences between two readings of one connection's host."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection
        self._last: dict[str, int] = {}
        self._cpu()

    def take(self) -> dict[str, float]:
        """``cpu_percent`` of all processors since the last call, and ``memory_used_kib``.
        Without what the driver does not tell.
        """
        return {**self._cpu(), **self._memory()}

    def _cpu(self) -> dict[str, float]:
        try:
            now = self._connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
        except libvirt.libvirtError:
            return {}
        last, self._last = self._last, now
        spent = {name: now[name] - last.get(name, 0) for name in now}
        total = sum(spent.values())
        if not last or not total:
            return {}
        return {"cpu_percent": round(100 - 100 * (spent["idle"] + spent["iowait"]) / total, 1)}

    def _memory(self) -> dict[str, float]:
        try:
            now = self._connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        except libvirt.libvirtError:
            return {}
        free = now["free"] + now.get("buffers", 0) + now.get("cached", 0)
        return {"memory_used_kib": now["total"] - free}
