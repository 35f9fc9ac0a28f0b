"""What a benchmark of hostile requests sends, how it measures, and what it wants to see."""

from __future__ import annotations

import dataclasses
from typing import Literal

from benchmarks.loop.report import Goals
from benchmarks.loop.stack import FedEmbeddedStack


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    #: the module whose ``catalogue`` and ``named`` are the requests
    catalogue: str
    goals: Goals
    #: in which memory is counted; see ``Memory``
    memory: Literal["rss", "pss"] = "rss"
    #: of all the server's processes; one that takes more is killed
    memory_limit_mb: float | None = None
    #: the server in one process
    embedded: type[FedEmbeddedStack] = FedEmbeddedStack
    #: a module that takes a line with the seconds after which its neighbours ask, and answers with a line of JSON:
    #: name → status and seconds
    neighbours: str | None = None
    #: whom it asks, in the order of its answer
    beside: tuple[str, ...] = ()
    #: what the requests wait for at most, by default, in minutes for the whole run
    minutes: float = 20.0
