"""Readings as one file, CSV for spreadsheets or JSON for programs, made a page at a time.

The audit log has a line for each reading, written before its page is sent. So the log says what has left the server,
also when a download breaks off.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from ocr.audit.recording import Action, Actor, record_each
from ocr.models import KtpExtraction
from ocr.reading.schema import FIELDS, as_contract
from ocr.spreadsheet import csv_head, csv_lines
from sessions_app.db import in_db
from sessions_app.encryption.sealed import check_readable

#: readings of one page, which are recorded together
PAGE_READINGS = 500

Format = Literal["csv", "json"]
CONTENT_TYPES: dict[Format, str] = {"csv": "text/csv; charset=utf-8", "json": "application/json"}

#: the parts of the address have names of their own where they are not nested
_NAMES = {"alamat.name": "alamat"}
COLUMNS = (
    "id",
    *(_NAMES.get(each.path, each.path.rpartition(".")[2]) for each in FIELDS),
    *("uploaded_at", "state", "review", "reviewed_at", "problems"),
)
_WANTED = ("pk", *(each.column for each in FIELDS), "created_at", "state", "review", "reviewed_at", "problems")


#: a purpose may hold a date or the number of a letter
MOST_DIGITS = 13


def looks_like_nik(purpose: str) -> bool:
    """Whether the purpose has as many digits as a NIK, however they are grouped. The audit log keeps it for ever."""
    return sum(letter.isdigit() for letter in purpose) >= MOST_DIGITS


@dataclass(frozen=True, slots=True)
class Export:
    """Which readings go where, and why."""

    form: Format
    #: in the order of the file; those that are erased before their page is made are left out
    ids: Sequence[uuid.UUID]
    actor: Actor
    purpose: str
    #: the same in all its lines of the audit log
    word: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def file_name(self) -> str:
        return f"readings-{timezone.now():%Y%m%d-%H%M%S}-{self.word}.{self.form}"

    def pieces(self) -> Iterator[bytes]:
        """The file. Raises ``DataKeyMissing`` at a reading that cannot be decrypted."""
        between = self._head()
        for start in range(0, len(self.ids), PAGE_READINGS):
            if page := self._page(start):
                yield between + page
                between = self._between()
        yield self._tail(between)

    async def stream(self) -> AsyncIterator[bytes]:
        """As ``pieces``, for a response. It holds no connection while the client reads."""
        between = self._head()
        for start in range(0, len(self.ids), PAGE_READINGS):
            if page := await in_db(self._page, start):
                yield between + page
                between = self._between()
        yield self._tail(between)

    def _head(self) -> bytes:
        return csv_head(COLUMNS) if self.form == "csv" else b"[\n"

    def _between(self) -> bytes:
        return b"" if self.form == "csv" else b",\n"

    def _tail(self, between: bytes) -> bytes:
        """The end, after the head if no page has come."""
        begun = between if between == self._head() else b""
        return begun if self.form == "csv" else begun + b"\n]\n"

    @transaction.atomic
    def _page(self, start: int) -> bytes:
        wanted = self.ids[start : start + PAGE_READINGS]
        found = {card.pk: card for card in KtpExtraction.objects.filter(pk__in=wanted).only(*_WANTED)}
        cards = [found[pk] for pk in wanted if pk in found]
        for card in cards:
            for value in card.values.values():
                check_readable(value)
        if cards:
            # A line for each card: its holder may ask who was given it.
            facts = {"export": self.word, "format": self.form, "of": len(self.ids)}
            record_each(Action.EXPORTED, cards, actor=self.actor, purpose=self.purpose, facts=facts)
        if self.form == "csv":
            return csv_lines(map(_row, cards))
        return ",\n".join(map(_object, cards)).encode()


def _row(card: KtpExtraction) -> list[object]:
    values = card.values
    return [card.pk, *(values[each.path] for each in FIELDS), *_about(card).values()]


def _object(card: KtpExtraction) -> str:
    about = _about(card)
    about["problems"] = [problem.code for problem in card.problem_list]
    return json.dumps({"id": str(card.pk), **as_contract(card.values), **about}, ensure_ascii=False)


def _about(card: KtpExtraction) -> dict[str, Any]:
    reviewed_at = card.reviewed_at
    return {
        "uploaded_at": card.created_at.isoformat(timespec="seconds"),
        "state": card.state,
        "review": card.review,
        "reviewed_at": reviewed_at.isoformat(timespec="seconds") if reviewed_at is not None else "",
        "problems": " ".join(dict.fromkeys(problem.code for problem in card.problem_list)),
    }
