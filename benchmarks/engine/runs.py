"""One measured run: a set of requests, from the start of the first to the last token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.engine.types import GenerationRequest


@dataclass(frozen=True, slots=True)
class Run:
    """What one contestant did with one set of requests."""

    tokens: int
    #: from the first request to the last token
    seconds: float
    #: of every request, from its own asking
    first_token_seconds: tuple[float, ...]
    #: tokens a second while all rows generate and none is read in; None when that never was
    prefilled_rate: float | None = None

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class LeftOut(Exception):
    """The contestant does not run here; the message says why."""


class Contestant(Protocol):
    """One way of serving the requests."""

    @property
    def name(self) -> str: ...

    #: whether it generates several answers at once: it is asked at every size, however long that takes
    batches: bool
    #: whether requests may come one after the other; a static batch has to wait for all
    takes_arrivals: bool

    def run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float]) -> Run:
        """Generate all of them; request i is asked ``arrivals[i]`` seconds after the first."""
