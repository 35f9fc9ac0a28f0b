"""The hostile requests are what they say, and what is seen of them is judged as the README says."""

from __future__ import annotations

import re

import pytest

from benchmarks.loop.catalogue import catalogue
from benchmarks.loop.hostile import LEFT, REFUSED, Hostile
from benchmarks.loop.observer import Seen
from benchmarks.loop.report import Goals, Quiet, Row

#: their bodies stop before their declared end, on purpose
STOP_HALF_WAY = {"slow-bodies", "half-body", "half-bodies"}
#: these take seconds to make, and are made in the same way as others
PICTURES = {"image-jpeg-15mb", "image-png-15mb", "image-png-22mb", "ktp-20mb"}
REQUESTS = {hostile.name: hostile for hostile in catalogue() if hostile.name not in PICTURES}


def test_every_name_is_there_once() -> None:
    names = [hostile.name for hostile in catalogue()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_body_has_its_declared_length_or_is_sent_in_chunks(name: str) -> None:
    pieces = [piece for piece in REQUESTS[name].make() if isinstance(piece, bytes)]
    head, separator, rest = pieces[0].partition(b"\r\n\r\n")
    assert separator or b"chunked" in pieces[0]
    length = re.search(rb"Content-Length: (\d+)", head)
    if length is None:
        assert pieces[-1].endswith(b"0\r\n\r\n")
    elif REQUESTS[name].answers == 1:
        sent = len(rest) + sum(map(len, pieces[1:]))
        assert sent < int(length[1]) if name in STOP_HALF_WAY else sent == int(length[1])


def hostile(**options: object) -> Hostile:
    return Hostile("a", "a", lambda: [], **options)  # type: ignore[arg-type]


def row(*, statuses: list[int], health: float = 5.0, peak_mb: float = 0.0, **seen: int) -> Row:
    row = Row("a", "a", statuses=statuses, peak_mb=peak_mb)
    row.add(Seen(health=[health], gaps=[50.0], own_delay=0.0, **{"unanswered": 0, "ended": 0} | seen))
    return row


@pytest.mark.parametrize(
    ("seen", "faults"),
    [
        (row(statuses=[400]), []),
        (row(statuses=[400], health=100.0), ["health"]),
        (row(statuses=[400], peak_mb=513.0), ["memory over 512 MB"]),
        (row(statuses=[500]), ["status"]),
        (row(statuses=[400, 200]), ["status"]),
        (row(statuses=[LEFT]), ["status"]),
        (row(statuses=[400], unanswered=2), ["2 probes without an answer"]),
        (row(statuses=[400], ended=1), ["1 streams ended"]),
    ],
)
def test_what_is_not_as_it_should_be_is_named(seen: Row, faults: list[str]) -> None:
    seen.judge(hostile(), Goals(), Quiet(), is_alive=True)
    assert seen.faults == faults


def test_a_client_that_leaves_needs_no_answer() -> None:
    seen = row(statuses=[LEFT])
    seen.judge(hostile(expect=REFUSED | {LEFT}), Goals(), Quiet(), is_alive=True)
    assert seen.faults == []


def test_a_server_that_died_is_the_first_fault() -> None:
    seen = row(statuses=[])
    seen.judge(hostile(), Goals(), Quiet(), is_alive=False)
    assert seen.faults == ["the server died", "status"]


def test_an_answer_that_comes_too_late_and_gaps_that_grow_are_faults_where_that_is_a_goal() -> None:
    seen = row(statuses=[400])
    seen.seconds = 16.0
    seen.judge(hostile(), Goals(seconds=15.0, gaps_ratio=2.0), Quiet(gaps=[20.0]), is_alive=True)
    assert seen.faults == ["over 15 s", "gaps"]


def test_neighbours_must_get_what_they_get_otherwise_and_in_time() -> None:
    quiet = Quiet(beside={"chat": (200, 0.1), "url": (200, 0.2), "ktp": (200, 1.0)})
    seen = row(statuses=[400])
    seen.beside = {"chat": (200, 14.0), "url": (400, 0.2), "ktp": (200, 16.0)}
    seen.judge(hostile(), Goals(seconds=15.0), quiet, is_alive=True)
    assert seen.faults == ["url beside it", "ktp beside it"]
