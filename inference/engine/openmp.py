"""Which threads compute with helpers. torch computes with OpenMP on a CPU.

OpenMP gives each thread that computes helpers of its own, which wait for the next product as long as the thread lives.
With more threads and helpers than cores libgomp stops their busy waiting, and each product then wakes its helpers from
sleep: decode steps of two threads took 1.4 to 1.8 times as long. So only the model thread has helpers. Work beside it
computes alone, and loading runs in a thread that ends (``inference/engine_process/child.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_LIBRARIES = ("libgomp", "libomp", "libiomp5")


def compute_alone() -> None:
    """Let the calling thread compute without helpers from now on. Nothing changes where OpenMP is not found."""
    # torch sets a thread's number when the thread first asks, and would overwrite what is set before.
    torch.get_num_threads()
    for library in _openmp():
        # Not ``torch.set_num_threads``, which sets MKL's number for all threads. So a product by MKL would still have
        # helpers here, but preparing prompts and images computes none.
        library.omp_set_num_threads(1)


@functools.cache
def _openmp() -> list[ctypes.CDLL]:
    """The OpenMP libraries of this process: other packages may have brought their own. None without ``/proc``."""
    found: dict[str, ctypes.CDLL] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = "/" + line.partition("/")[2]
            if Path(path).name.startswith(_LIBRARIES) and path not in found:
                found[path] = ctypes.CDLL(path)
    if not found:
        logger.info("no OpenMP library was found; work beside the model thread computes with helpers of its own")
    return list(found.values())
