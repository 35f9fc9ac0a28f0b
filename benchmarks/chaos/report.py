"""What the clients saw against the log and the undisturbed texts, and the table that says so."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from benchmarks.chaos.clients import Client
from benchmarks.chaos.stack import ChaosStack
from tests.live.events import indexes_of


@dataclasses.dataclass(slots=True)
class Tally:
    """What the run has to answer for. All but the first two must be zero."""

    streams: int = 0
    completed: int = 0
    lost: int = 0
    duplicated: int = 0
    disordered: int = 0
    differing: int = 0
    refused: int = 0

    @property
    def is_clean(self) -> bool:
        wrong = self.lost + self.duplicated + self.disordered + self.differing + self.refused
        return not wrong and self.completed == self.streams


def compare(
    clients: Sequence[Client], expected: Sequence[str], stack: ChaosStack, *, total: int
) -> tuple[Tally, list[str]]:
    """What the clients saw against the log and the undisturbed texts; the sum, and a line for each that is wrong."""
    rows = {
        row[0]: row[1:]
        for row in stack.query(
            "SELECT id, state, next_index, attempt, worker, error, (SELECT count(*) FROM sessions_app_chunk c "
            "WHERE c.session_id = s.id) FROM sessions_app_chatsession s"
        )
    }
    tally = Tally(streams=total)
    wrong = []
    for number, client in enumerate(clients):
        row = rows.get(client.session_id, ("missing", 0, 0, "", None, 0))
        seen = indexes_of(client.events)
        completed = client.is_done() and row[0] == "completed" and row[1] == row[5]
        faults = {
            "completed": int(completed),
            # Of a stream that the deadline cut off, what is missing before its last event.
            "lost": len(set(range(row[1] if client.is_done() else max(seen, default=0))) - set(seen)),
            "duplicated": len(seen) - len(set(seen)),
            "disordered": int(seen != sorted(seen)),
            "differing": int(completed and client.said() != expected[number % len(expected)]),
            "refused": len(client.refusals),
        }
        for name, count in faults.items():
            setattr(tally, name, getattr(tally, name) + count)
        if not completed or any(count for name, count in faults.items() if name != "completed"):
            pairs = zip(client.said(), expected[number % len(expected)], strict=False)
            same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
            wrong.append(
                f"{client.session_id}: {faults}, row {row}, refusals {client.refusals[:3]}, "
                f"question {number % len(expected)}, the first {same} characters are right"
            )
    return tally, wrong


def table(report: dict[str, Any]) -> str:
    rows = [
        ("streams", report["streams"]),
        ("sessions not completed", report["streams"] - report["completed"]),
        ("events", report["events"]),
        ("events lost", report["lost"]),
        ("events duplicated", report["duplicated"]),
        ("streams out of order", report["disordered"]),
        ("texts that differ", report["differing"]),
        ("unexpected refusals", report["refused"]),
        ("worst pause of a client, s", report["worst_pause_s"]),
        ("  of the session", report["worst_pause_of"]),
        ("resumes", report["resumes"]),
        ("  by the client's choice", report["resumes_by_choice"]),
        ("worker attempts", report["worker_attempts"]),
        ("  of one session, at most", report["max_attempts_of_a_session"]),
        ("slowest stop of a process, s", report["slowest_stop_s"]),
        ("  of the process", report["slowest_stop_of"]),
        ("duration, s", report["seconds"]),
        ("streams open at a fault, least", report["fewest_streams_open_at_a_fault"]),
        ("faults", report["faults"]),
        *((f"  {kind}", count) for kind, count in sorted(report["faults_by_kind"].items())),
    ]
    lines = [f"{label:32}{value:>12}" for label, value in rows]
    return "\n".join([*lines, *(f"trouble: {line}" for line in report["troubles"]), *report["wrong"]])
