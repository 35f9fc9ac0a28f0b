"""The devices that a model is on, and how much of their memory is in use."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The files of one version of Linux's control groups that describe the memory of a container."""

    limit: Path
    used: Path
    statistics: Path
    #: the entry of ``statistics`` that counts the cached pages of files which are given up first
    reclaimable: str

    def free_bytes(self) -> int:
        """Bytes below the limit, cached pages of files included: the kernel gives those up when memory is asked for.

        Raises OSError or ValueError where there is no such group or no limit. Kubernetes counts a container's use so.
        """
        return self.limit_bytes() - max(0, int(self.used.read_text()) - self._reclaimable_bytes())

    def limit_bytes(self) -> int:
        """Raises OSError or ValueError where there is no such group or no limit."""
        return int(self.limit.read_text())

    def _reclaimable_bytes(self) -> int:
        with contextlib.suppress(OSError):
            for line in self.statistics.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == self.reclaimable:
                    return int(count)
        return 0


#: versions 2 and 1
CONTROL_GROUPS = (
    ControlGroup(
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory.current"),
        Path("/sys/fs/cgroup/memory.stat"),
        "inactive_file",
    ),
    ControlGroup(
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
        "total_inactive_file",
    ),
)


class Devices:
    """The devices of one model. Thread-safe."""

    def __init__(self, model: torch.nn.Module) -> None:
        found = {parameter.device for parameter in model.parameters()}
        self._gpus = sorted((device for device in found if device.type == "cuda"), key=str)
        #: memory of all its GPUs in bytes; 0 on a CPU
        self.total_bytes = sum(torch.cuda.mem_get_info(gpu)[1] for gpu in self._gpus)
        names = [torch.cuda.get_device_name(gpu) for gpu in self._gpus]
        counted = [f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
        others = sorted({device.type for device in found if device.type != "cuda"})
        #: for display: ``NVIDIA H100 80GB HBM3``, ``2 × NVIDIA L4``, ``cpu``
        self.name = ", ".join([*counted, *others])

    def bytes_used(self) -> int:
        """Bytes in use on its GPUs, by this process and by others."""
        return sum(total - free for free, total in map(torch.cuda.mem_get_info, self._gpus))


def free_host_bytes() -> int:
    """Bytes that this process may still take: what is free on the machine and below the limit of its container."""
    free = int(psutil.virtual_memory().available)
    for group in CONTROL_GROUPS:
        # The files are absent elsewhere, and "max" means that there is no limit.
        with contextlib.suppress(OSError, ValueError):
            free = min(free, group.free_bytes())
    return max(free, 0)


def total_host_bytes() -> int:
    """Bytes of main memory, or the limit of the container; the same at every start, whatever else is running."""
    total = int(psutil.virtual_memory().total)
    for group in CONTROL_GROUPS:
        with contextlib.suppress(OSError, ValueError):
            total = min(total, group.limit_bytes())
    return total
