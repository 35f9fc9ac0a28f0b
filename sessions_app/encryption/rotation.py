"""Bring stored values under the first of the ``DATA_KEYS``: those under older keys, and those that are plain.

Rows are taken in order of their keys, a few at a time. A row that is already as it should be is not written, so an
interrupted rotation is started again from the beginning. A row is written only while it still holds what was read: one
that changed at the same time is looked at again, and no write is lost.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models import F, Func, Value
from django.db.models.functions import Cast, Substr

from sessions_app import privacy
from sessions_app.encryption import keyring, sealed
from sessions_app.encryption.fields import Encrypting, OpenedBinaryField, OpenedJSONField, SealedColumn
from sessions_app.encryption.sealed import Unreadable

BATCH_ROWS = 50
#: a row that other processes change all the time is tried this often in a row; a later rotation finds it
MAX_TRIES = 20
#: how the columns that are encrypted only in private sessions lead to the session's origin
ORIGIN_PATHS = {"ChatSession": "origin", "Chunk": "session__origin", "SessionMedia": "session__origin"}


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """Columns that are computed from encrypted ones, such as keyed digests."""

    names: tuple[str, ...]
    #: the encrypted columns that they are computed from
    sources: tuple[str, ...]
    #: from the opened values of ``sources`` to the columns ``names``. It gets bytes only if they are to be encrypted
    compute: Callable[[Mapping[str, Any]], Mapping[str, Any]]


NO_DERIVED = Derived((), (), lambda values: {})
_derived: dict[str, Derived] = {}


def register_derived(label: str, derived: Derived) -> None:
    """A rotation computes these columns of the model ``label`` again."""
    _derived[label] = derived


register_derived(
    "sessions_app.SessionMedia",
    Derived(("sha256",), ("data",), lambda values: {"sha256": ""} if "data" in values else {}),
)


@dataclasses.dataclass
class Progress:
    """How far the rotation of one table is."""

    table: str
    rows: int = 0
    written: int = 0
    #: rows that no key of the ring opens, by the key that they need
    lost: Counter[str] = dataclasses.field(default_factory=Counter)
    #: rows that needed to be written, by the key that they were under; "" where a value was plain
    outdated: Counter[str] = dataclasses.field(default_factory=Counter)


def tables() -> list[type[models.Model]]:
    """The models with encrypted columns."""
    return [model for model in apps.get_models() if sealed_columns(model)]


def rows_of(model: type[models.Model]) -> models.QuerySet[Any]:
    """The rows that are to be encrypted: all, or those of private sessions."""
    rows = model._base_manager.all()
    if any(isinstance(field, Encrypting) for field in sealed_columns(model)):
        return rows
    return rows.filter(**{f"{ORIGIN_PATHS[model.__name__]}__in": privacy.private_origins()})


def rotate(
    model: type[models.Model],
    rows: models.QuerySet[Any] | None = None,
    *,
    derived: Derived | None = None,
    is_dry_run: bool = False,
) -> Iterator[Progress]:
    """Encrypt again what needs it, and yield the progress after each batch. A dry run only counts.

    Rows behind the last one of now are left out: running processes encrypt them with the first key, and a table that
    grows faster than it is rotated would have no end. A migration names the ``derived`` columns that the table has
    then. Raises ``DataKeyMissing`` without any key.
    """
    rows = rows_of(model) if rows is None else rows
    derived = derived or _derived.get(model._meta.label, NO_DERIVED)
    progress = Progress(model._meta.db_table)
    end = rows.order_by("-pk").values_list("pk", flat=True).first()
    if end is not None:
        rows = rows.filter(pk__lte=end)
    last = None
    while end is not None:
        batch = _read(model, rows.filter(pk__gt=last) if last is not None else rows, derived)
        if not batch:
            break
        for row in batch:
            progress.rows += 1
            _rotate_row(model, rows, row, derived, progress, is_dry_run=is_dry_run)
        last = batch[-1]["pk"]
        yield progress
    yield progress


def _rotate_row(
    model: type[models.Model],
    rows: models.QuerySet[Any],
    row: dict[str, Any] | None,
    derived: Derived,
    progress: Progress,
    *,
    is_dry_run: bool,
) -> None:
    for _ in range(MAX_TRIES):
        if row is None:
            return  # it was deleted
        outdated, changes = _changes(model, row, derived, progress)
        if not changes:
            return
        if is_dry_run or _write(model, row, changes, derived):
            progress.outdated.update(outdated)
            progress.written += not is_dry_run
            return
        # It changed since it was read.
        row = next(iter(_read(model, rows.filter(pk=row["pk"]), derived)), None)


def sealed_columns(model: type[models.Model]) -> list[SealedColumn]:
    return [field for field in model._meta.concrete_fields if isinstance(field, SealedColumn)]


def _stored(field: SealedColumn) -> models.expressions.Combinable:
    """The column as it is stored, past the field's own reading. Of bytes, the beginning, which has the key's id."""
    if isinstance(field, OpenedBinaryField):
        return Substr(F(field.attname), 1, sealed.BYTES_HEAD, output_field=models.BinaryField())
    return Cast(F(field.attname), models.TextField())


def _whole(field: SealedColumn) -> models.expressions.Combinable:
    return Func(F(field.attname), template="%(expressions)s", output_field=models.BinaryField())


def _read(model: type[models.Model], rows: models.QuerySet[Any], derived: Derived) -> list[dict[str, Any]]:
    columns = {f"stored_{field.attname}": _stored(field) for field in sealed_columns(model)}
    found = rows.order_by("pk").values("pk", *derived.names, **columns)[:BATCH_ROWS]
    return [{"pk": row["pk"], **row} for row in found]


def _changes(
    model: type[models.Model], row: dict[str, Any], derived: Derived, progress: Progress
) -> tuple[set[str], dict[str, Any]]:
    """The keys that the row was under, and the columns to write."""
    first = keyring.ring().first.id
    opened: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    outdated: set[str] = set()
    for field in sealed_columns(model):
        stored = row[f"stored_{field.attname}"]
        if not stored:
            if stored == "" and field.attname in derived.sources:
                opened[field.attname] = ""  # a process of the last release empties a value, and leaves its digest
            continue
        if isinstance(field, OpenedBinaryField):
            stored = bytes(stored)
            keys = sealed.key_ids(stored)
            if keys == {first}:
                continue
            whole = model._base_manager.filter(pk=row["pk"]).values_list(_whole(field), flat=True).first()
            # Also for the comparison when it is written: plain pictures begin alike.
            row[f"stored_{field.attname}"] = whole
            stored = bytes(whole or b"")
        elif isinstance(field, OpenedJSONField):
            stored = json.loads(stored)
        keys = sealed.key_ids(stored)
        value = field.open(stored)
        if (lost := _key_lost(value)) is not None:
            progress.lost[lost] += 1
            continue
        if not value:
            continue
        opened[field.attname] = value
        if keys == {first}:
            continue
        new = field.seal(value)
        if keys or sealed.key_ids(new):
            changes[field.attname] = new
            outdated |= keys - {first} or {""}
    for name, value in derived.compute(opened).items():
        if row.get(name) != value:
            changes[name] = value
            outdated = outdated or {""}
    return outdated, changes


def _key_lost(value: Any) -> str | None:
    items = value if isinstance(value, list) else ()
    return next((item.key_id for item in (value, *items) if isinstance(item, Unreadable)), None)


def _write(model: type[models.Model], row: Mapping[str, Any], changes: Mapping[str, Any], derived: Derived) -> bool:
    """Write the row if it still holds what was read: what is replaced, and what the derived columns come from."""
    digests = {name: value for name, value in changes.items() if name in derived.names}
    rows = model._base_manager.filter(pk=row["pk"], **{name: row[name] for name in digests})
    written: dict[str, Any] = {}
    for field in sealed_columns(model):
        if field.attname not in changes and not (digests and field.attname in derived.sources):
            continue
        before = row[f"stored_{field.attname}"]
        now = _whole(field) if isinstance(field, OpenedBinaryField) else _stored(field)
        rows = rows.alias(**{f"now_{field.attname}": now}).filter(**{f"now_{field.attname}": before})
        if field.attname in changes:
            written[field.attname] = Value(changes[field.attname], output_field=_plain_field(field))
    return bool(rows.update(**written, **digests))


def _plain_field(field: SealedColumn) -> models.Field[Any, Any]:
    if isinstance(field, OpenedBinaryField):
        return models.BinaryField()
    return models.JSONField() if isinstance(field, OpenedJSONField) else models.TextField()
