"""Export everything that is held about a person, as one JSON document or a zip of tables and pictures."""

from __future__ import annotations

import datetime
import json
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from django.conf import settings
from django.utils import timezone

from ocr.models import KtpExtraction
from ocr.persons.stored_data import held_about, picture_of
from ocr.reading.schema import FIELDS
from ocr.spreadsheet import as_csv

#: format → file extension and content type
FORMATS = {"json": ("json", "application/json"), "csv": ("zip", "application/zip")}
_ENDINGS = {"image/jpeg": "jpg", "image/png": "png"}
#: further tables of the zip → their columns after the reading's id
_TABLES = {
    "history": ("at", "by", "what", "field", "old", "new", "code", "reason", "note"),
    "audit": ("at", "what", "by", "purpose"),
    "sessions": ("state", "model", "created_at", "started_at", "finished_at", "expired_at"),
}


def file_name(kind: str) -> str:
    """The file name of a download: unguessable, and without personal data."""
    return f"ktp-export-{timezone.localdate():%Y%m%d}-{uuid.uuid4().hex[:8]}.{FORMATS[kind][0]}"


def write_json(cards: Iterable[KtpExtraction], file: IO[bytes]) -> int:
    """Write one reading after the other, so that only one picture is in memory. Returns their number."""
    head = json.dumps({"exported_at": timezone.now(), "server": settings.VERSION}, default=_plain)
    file.write(f'{head[:-1]}, "readings": ['.encode())
    count = 0
    for count, card in enumerate(cards, 1):
        text = json.dumps(held_about(card), indent=1, ensure_ascii=False, default=_plain)
        file.write(f"{',' if count > 1 else ''}\n{text}".encode())
    file.write(b"\n]}\n")
    return count


def write_zip(cards: Iterable[KtpExtraction], file: IO[bytes]) -> int:
    """Write ``readings.csv``, a table for each kind of line, and the pictures. Returns the number of readings."""
    readings: list[list[object]] = []
    tables: dict[str, list[list[object]]] = {name: [] for name in _TABLES}
    others: list[list[object]] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for card in cards:
            held = held_about(card, with_image=False)
            values, read = card.values, card.fields_read
            readings.append(
                [
                    *map(_cell, held["reading"].values()),
                    *(values[field.path] for field in FIELDS),
                    *(read.get(field.path, "") for field in FIELDS),
                    _cell(held["problems"]),
                    held["answer_of_the_model"],
                ]
            )
            for name, columns in _TABLES.items():
                tables[name] += [[card.pk, *(_cell(line[column]) for column in columns)] for line in held[name]]
            for name in held.keys() - {*_TABLES, *_IN_READINGS}:
                others += [[card.pk, name, _cell(line)] for line in held[name]]
            if (picture := picture_of(card)) is not None:
                archive.writestr(f"pictures/{card.pk}.{_ENDINGS.get(picture[0], 'bin')}", picture[1])
        archive.writestr("readings.csv", as_csv(list(_heads()), readings))
        for name, columns in _TABLES.items():
            archive.writestr(f"{name}.csv", as_csv(["reading", *columns], tables[name]))
        if others:
            archive.writestr("others.csv", as_csv(["reading", "table", "row"], others))
    return len(readings)


_IN_READINGS = (
    *("reading", "values", "values_read_by_the_model", "answer_of_the_model", "problems", "confirmed", "picture"),
)
_OF_READING = (
    *("id", "state", "review", "uploaded_at", "uploaded_by", "file_name", "model", "read_at", "sent_for_review_at"),
    *("decided_at", "decided_by", "reject_reason", "picture_removed_at", "frozen_at", "frozen_why"),
)


def _heads() -> Iterator[str]:
    yield from _OF_READING
    yield from (field.path for field in FIELDS)
    yield from (f"{field.path} (as the model read it)" for field in FIELDS)
    yield from ("problems", "answer of the model")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, datetime.datetime):
        return _plain(value)
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return str(value)
