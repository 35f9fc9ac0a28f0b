"""The devices that a model is on, and how much of their memory is in use."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import torch

#: limit and use of a container's memory, in versions 2 and 1 of Linux's control groups
CONTROL_GROUP_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
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
    for limit, used in CONTROL_GROUP_FILES:
        # The files are absent elsewhere, and "max" means that there is no limit.
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 0)
