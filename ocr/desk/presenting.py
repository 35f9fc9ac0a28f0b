"""A card in the form that templates need: rows of fields with their flags, and the history as a timeline."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from ocr.desk.conflicts import Clash, Conflict
from ocr.desk.forms import tick_value
from ocr.desk.rights import Rights
from ocr.history import KtpChange
from ocr.masking import mask
from ocr.models import KtpExtraction
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELD_BY_PATH, FIELDS, Field


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a value, and whether the model was uncertain of it."""

    text: str
    is_uncertain: bool


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag under its field."""

    key: str
    severity: str
    #: sentences about the flag, the most important first
    sentences: list[str]
    #: the value with its uncertain characters marked; empty if none is known
    marks: list[Mark]
    is_confirmed: bool
    #: the user who confirmed it
    confirmed_by: str


@dataclass(frozen=True, slots=True)
class Row:
    """One field of the card."""

    field: Field
    value: str
    #: the model's value, if it differs
    read: str | None
    flags: list[Flag]
    clash: Clash | None
    #: the value in a stale form, if it could not be stored
    typed: str | None
    #: whether the value is masked; it must be revealed before it can be corrected
    is_masked: bool = False

    @property
    def is_open(self) -> bool:
        """Whether one of its flags is open."""
        return any(not flag.is_confirmed for flag in self.flags)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline."""

    at: datetime.datetime
    who: str
    what: str
    field: str
    old: str
    new: str
    why: str

    @property
    def is_correction(self) -> bool:
        return bool(self.field) and (self.old != self.new)


def rows_of(card: KtpExtraction, rights: Rights, conflict: Conflict | None = None) -> list[Row]:
    """All fields in the card's order.

    Identifying values are masked for users who do not review. NIK and date of birth are masked until revealed.
    """
    values, confirmers = card.values, _confirmers(card)
    rows = []
    for field in FIELDS:
        value, typed = values[field.path], None
        clash = conflict.clashes.get(field.path) if conflict else None
        if conflict and rights.correct and card.is_open:
            value = conflict.kept.get(field.path, value)
        elif conflict and rights.correct:
            clash, typed = None, clash.mine if clash else conflict.kept.get(field.path)
        read = card.fields_read.get(field.path, "")
        flags = [_flag(card, flag, rights, confirmers) for flag in card.flags if flag.field == field.path]
        rows.append(
            Row(
                field,
                _shown(field, value, rights),
                None if read == values[field.path] or not card.fields_read else _shown(field, read, rights),
                flags,
                clash,
                typed if typed != values[field.path] else None,
                is_masked=bool(value) and _is_masked(field, rights),
            )
        )
    return rows


def whole_flags_of(card: KtpExtraction, rights: Rights) -> list[Flag]:
    """The flags that are about the whole reading."""
    confirmers = _confirmers(card)
    return [_flag(card, flag, rights, confirmers) for flag in card.flags if flag.field is None]


def timeline_of(card: KtpExtraction, rights: Rights) -> list[Entry]:
    """The card's history, oldest first; empty for users who may not see it."""
    if not rights.accuracy:
        return []
    return entries_of(card.history.all(), rights)


def entries_of(changes: Iterable[KtpChange], rights: Rights) -> list[Entry]:
    entries = []
    for change in changes:
        field = FIELD_BY_PATH.get(change.field)
        is_hold = change.kind in (KtpChange.Kind.FROZEN, KtpChange.Kind.UNFROZEN)
        note = "" if is_hold and not rights.hold else change.note
        why = [change.get_reason_display() if change.reason else "", note]
        if change.code:
            why.insert(0, Problem(None, change.code).sentence)
        entries.append(
            Entry(
                change.at,
                change.actor_name or _("the server"),
                change.get_kind_display(),
                field.name if field else "",
                _shown(field, change.old, rights) if field else "",
                _shown(field, change.new, rights) if field else "",
                ": ".join(part for part in why if part),
            )
        )
    return entries


def _flag(card: KtpExtraction, flag: Problem, rights: Rights, confirmers: dict[str, str]) -> Flag:
    field = FIELD_BY_PATH.get(flag.field or "")
    # Both the sentences about places and the marks quote the value.
    is_shown = rights.review and not (field is not None and _is_masked(field, rights))
    place_sentences = flag.place_sentences if is_shown else []
    return Flag(
        tick_value(flag),
        flag.severity,
        place_sentences or [flag.sentence],
        _marks(card.values.get(flag.field or "", ""), flag) if is_shown else [],
        card.is_confirmed(flag),
        confirmers.get(tick_value(flag), ""),
    )


def _marks(value: str, flag: Problem) -> list[Mark]:
    """The value in parts; those that the model was not sure of are underlined."""
    marks, at = [], 0
    for place in sorted(flag.uncertain, key=lambda place: place.at):
        if place.at > at:
            marks.append(Mark(value[at : place.at], False))
        if place.text:
            marks.append(Mark(value[place.at : place.end], True))
        at = max(at, place.end)
    if marks and at < len(value):
        marks.append(Mark(value[at:], False))
    return marks


def _confirmers(card: KtpExtraction) -> dict[str, str]:
    confirmations = card.history.filter(kind=KtpChange.Kind.CONFIRMED).values_list("field", "code", "actor_name")
    return {f"{field}:{code}": name for field, code, name in confirmations}


def _shown(field: Field, value: str, rights: Rights) -> str:
    return mask(field.path, value) if _is_masked(field, rights) else value


def _is_masked(field: Field, rights: Rights) -> bool:
    return (field.is_hidden and not rights.revealed) or (field.identifying and not rights.review)
