"""One hostile request: what it sends, and what the server may answer and spend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.loop.bodies import Pieces, request

#: the client's own leaving, without an answer
LEFT = 0
REFUSED = frozenset(range(400, 500))
ANSWERED = frozenset({200})
EITHER = REFUSED | ANSWERED
#: growth of the server's memory, in MB, for a request that it may take: at most 64 MiB of body
ACCEPTED_MB = 512
#: and for one that it need not: what arrives before that is known, once, and half as much again
REFUSED_MB = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Hostile:
    name: str
    what: str
    #: makes what one connection sends; called once, before the clock runs
    make: Callable[[], Pieces]
    expect: frozenset[int] = REFUSED
    memory_mb: int = ACCEPTED_MB
    connections: int = 1
    #: to wait for on each connection
    answers: int = 1
    #: after everything is sent, seconds until the client leaves
    patience: float = 30.0
    #: after the answers, seconds that the client stays and reads on
    stays: float = 0.0
    #: whether the work that it causes continues afterwards, so that the next request needs a new server
    spoils: bool = False
    #: seconds after its start until the neighbours ask, where there are some
    neighbours_after: float = 0.1


def chat(name: str, what: str, body: Callable[[], Sequence[bytes]], expect: frozenset[int] = REFUSED) -> Hostile:
    """A chat request with the body, JSON in pieces."""
    return Hostile(name, what, lambda: request(body()), expect)
