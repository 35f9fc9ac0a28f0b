"""Find lines of the audit log that were changed, removed, inserted or moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db import connection

from ocr.audit import triggers
from ocr.audit.chain import hash_of, seals_of
from ocr.audit.models import AuditEntry, AuditHead

#: lines of one query
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log at some time, SEQUENCE:HASH. ``manage.py audit verify`` prints it, to be kept elsewhere."""

    sequence: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError."""
        sequence, _, digest = text.partition(":")
        if not (sequence.isdecimal() and digest):
            raise ValueError("A head is SEQUENCE:HASH, as the command has printed it.")
        return cls(int(sequence), digest.lower())

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


@dataclass
class Verified:
    """The result of a verification."""

    lines: int
    head: Head
    #: sentences about what is wrong, in the order of the lines
    findings: list[str]
    #: lines sealed with a key that ``DATA_KEYS`` does not have
    unknown_seals: int = 0
    #: lines written while the server had no key
    unsealed: int = 0
    #: whether the database's own triggers are in place
    is_guarded: bool = True


def verify(*, known: Head | None = None, progress: Callable[[int], None] = lambda lines: None) -> Verified:
    """Verify the whole log in batches. ``known`` is a head that was noted earlier; the log must still contain it.

    Other processes may append lines meanwhile.
    """
    result = Verified(0, Head(0, ""), [], is_guarded=triggers.are_present(connection))
    began = _head()
    last: AuditEntry | None = None
    is_sealed = False
    for entry in _lines():
        expected = last.sequence + 1 if last is not None else 1
        if entry.sequence < 1:
            result.findings.append(f"Line {entry.sequence} was inserted: the log begins with line 1.")
            continue
        if entry.sequence > expected:
            result.findings.append(f"{_lines_of(expected, entry.sequence - 1)} missing.")
        elif entry.previous_hash != (last.hash if last is not None else ""):
            result.findings.append(f"Line {entry.sequence} does not follow line {expected - 1}.")
        if hash_of(entry) != entry.hash:
            result.findings.append(f"Line {entry.sequence} was changed.")
        is_sealed = _check_seal(entry, result, is_sealed=is_sealed)
        if known is not None and entry.sequence == known.sequence and entry.hash != known.hash:
            result.findings.append(f"Line {entry.sequence} is another than when its head was noted.")
        last = entry
        result.lines += 1
        if result.lines % BATCH == 0:
            progress(result.lines)
    if last is not None:
        result.head = Head(last.sequence, last.hash)
    result.findings += _end_findings(result.head, began, known)
    return result


def _check_seal(entry: AuditEntry, result: Verified, *, is_sealed: bool) -> bool:
    """Whether a line up to this one had a seal."""
    if not entry.seal:
        result.unsealed += 1
        if is_sealed:
            result.findings.append(f"Line {entry.sequence} has no seal, and lines before it have.")
        return is_sealed
    seal = seals_of(entry.hash).get(entry.key_id)
    if seal is None:
        result.unknown_seals += 1
    elif seal != entry.seal:
        result.findings.append(f"Line {entry.sequence} has a wrong seal: it was not written by this server.")
    return True


def _end_findings(end: Head, began: Head, known: Head | None) -> Iterator[str]:
    if end.sequence < began.sequence:
        yield f"{_lines_of(end.sequence + 1, began.sequence)} missing at the end."
    elif end.sequence == began.sequence and end.hash != began.hash:
        yield f"Line {end.sequence} is not the one that was written last."
    elif end.sequence > (now := _head()).sequence:
        yield f"{_lines_of(now.sequence + 1, end.sequence)} not written by this server."
    if known is not None and end.sequence < known.sequence:
        yield f"{_lines_of(end.sequence + 1, known.sequence)} missing since the head was noted."


def _lines_of(first: int, last: int) -> str:
    return f"Line {first} is" if first == last else f"Lines {first} to {last} are"


def _head() -> Head:
    row = AuditHead.objects.filter(pk=AuditHead.ONLY).first()
    return Head(row.sequence, row.hash) if row is not None else Head(0, "")


def _lines() -> Iterator[AuditEntry]:
    """All lines in order. They are read in batches, so no transaction stays open and memory is bounded."""
    rows = AuditEntry.objects.order_by("sequence")
    batch = list(rows[:BATCH])
    while batch:
        yield from batch
        batch = list(rows.filter(sequence__gt=batch[-1].sequence)[:BATCH])
