"""A reading in the form that the clerk's pages need: its outcome in one word, its fields, the possible actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ocr.masking import mask
from ocr.models import KtpExtraction
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS, Field
from ocr.reading.suggestions import VOCABULARIES, suggest
from sessions_app import turns
from sessions_app.models import ChatSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Outcome = Literal["reading", "cancelled", "failed", "nothing", "read", "sent", "approved", "rejected"]

#: a picture taller than its width by this factor may show a card on its side; a card is 1.6 times as wide as tall
SIDEWAYS = 1.4
#: with this many of the fourteen values flagged, the card is probably sideways or unreadable, not just smudged
MANY_FLAGS = 6


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of the result: its value, and what to say about it."""

    field: Field
    value: str
    problems: list[Problem]
    #: flags that a person has confirmed
    confirmed: list[Problem]
    #: similar values that cards print
    suggestions: list[str]
    #: whether the value is masked; it must be revealed before it can be corrected
    is_masked: bool = False

    @property
    def worst(self) -> str:
        """The highest severity of the problems that are not confirmed, or ""."""
        present = {problem.severity for problem in self.problems if problem not in self.confirmed}
        return next((severity for severity in ("error", "warning", "info") if severity in present), "")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The values that cards usually print in this field, if there are several."""
        words = VOCABULARIES.get(self.field.path, ())
        return words if len(words) > 1 else ()

    @property
    def is_open(self) -> bool:
        """Whether one of its flags is open."""
        return any(problem.is_flag and problem not in self.confirmed for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading as a row of the tray."""

    extraction: KtpExtraction
    #: whether the viewing user may change it
    may_change: bool
    #: an earlier reading of the same picture that the user may see
    seen_before: KtpExtraction | None = None
    #: its place among the sessions that wait for a worker; 0 if it does not wait
    place: int = 0
    pages: int = 1
    page: int = 1
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", outcome_of(self.extraction))

    @property
    def is_finished(self) -> bool:
        return self.outcome != "reading"

    @property
    def may_read_again(self) -> bool:
        """Whether it can be turned and sent to the model again."""
        return (
            self.may_change
            and self.outcome in ("cancelled", "failed", "nothing", "read")
            and self.extraction.image_removed_at is None
            and self.extraction.frozen_at is None
        )

    @property
    def may_be_sideways(self) -> bool:
        """Whether the card seems to lie on its side: the picture is tall, and many values are flagged."""
        image = getattr(self.extraction, "image", None)
        if not self.may_read_again or image is None or self.outcome == "cancelled" or image.height <= image.width:
            return False
        if self.outcome != "read" or self.open_flags >= MANY_FLAGS:
            return True
        # A card without open flags was not sideways, even in a tall photo.
        return self.open_flags > 0 and image.height > image.width * SIDEWAYS

    @property
    def open_flags(self) -> int:
        """The number of fields with an open flag. A field counts once, even with several flags."""
        return len({flag.field for flag in self.extraction.open_flags})


def outcome_of(extraction: KtpExtraction) -> Outcome:
    """The state of the reading in one word."""
    if extraction.state == extraction.State.READING:
        return "reading"
    if extraction.review == extraction.Review.APPROVED:
        return "approved"
    if extraction.review == extraction.Review.REJECTED:
        return "rejected"
    if extraction.state == extraction.State.FAILED:
        codes = {problem.code for problem in extraction.problem_list}
        return "cancelled" if "cancelled" in codes else "failed"
    if not extraction.is_readable:
        return "nothing"
    return "sent" if extraction.submitted_at else "read"


def masked_rows(extraction: KtpExtraction) -> list[FieldRow]:
    """Every field, masked for users who may not see the holder's data."""
    return [
        FieldRow(
            each,
            _masked(each, extraction.values[each.path]),
            [_without_places(problem) for problem in extraction.problem_list if problem.field == each.path],
            confirmed=[],
            suggestions=[],
            is_masked=True,
        )
        for each in FIELDS
    ]


def _masked(each: Field, value: str) -> str:
    return mask(each.path, value) if each.identifying or each.is_hidden else value


def _without_places(problem: Problem) -> Problem:
    """Without the uncertain places, which contain characters of the card."""
    return replace(problem, uncertain=())


def field_rows(
    extraction: KtpExtraction, values: dict[str, str], problems: Iterable[Problem], *, is_revealed: bool
) -> list[FieldRow]:
    """All fields in the card's order. ``values`` and ``problems`` may be unsaved.

    NIK and date of birth are masked unless ``is_revealed``.
    """
    by_field: dict[str | None, list[Problem]] = {}
    for problem in problems:
        by_field.setdefault(problem.field, []).append(problem)
    stored = extraction.values
    rows = []
    for each in FIELDS:
        found = by_field.get(each.path, [])
        same = values[each.path] == stored[each.path]
        confirmed = [problem for problem in found if same and extraction.is_confirmed(problem)]
        value = values[each.path]
        if each.is_hidden and not is_revealed and value and same:
            masked, quoted = mask(each.path, value), [_without_places(problem) for problem in found]
            rows.append(
                FieldRow(each, masked, quoted, [_without_places(problem) for problem in confirmed], [], is_masked=True)
            )
        else:
            rows.append(FieldRow(each, value, found, confirmed, suggest(each.path, value)))
    return rows


def read_before(lookups: Iterable[str], user: User, *, besides: KtpExtraction | None = None) -> KtpExtraction | None:
    """The latest other reading of the same picture that the user may see; ``lookups`` are the picture's digests."""
    rows = KtpExtraction.objects.visible_to(user).filter(image__sha256__in=lookups)
    if besides is not None:
        rows = rows.exclude(pk=besides.pk).filter(created_at__lt=besides.created_at)
    return rows.order_by("-created_at").first()


def queue_places(extractions: Iterable[KtpExtraction]) -> dict[str, int]:
    """Session → its place among all waiting sessions, from 1. Sessions that do not wait are left out."""
    waiting = {
        extraction.session.pk
        for extraction in extractions
        if extraction.session is not None and extraction.session.state == ChatSession.State.QUEUED
    }
    if not waiting:
        return {}
    return {pk: place for place, pk in enumerate(turns.in_order(), 1) if pk in waiting}
