"""Read a folder of labelled pictures: ``labels.jsonl``, one JSON object per line, and the pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ocr.reading.schema import FIELDS, as_contract, from_contract

LABELS = "labels.jsonl"

_PATH_OF_COLUMN = {field.column: field.path for field in FIELDS}


class BrokenFolder(Exception):
    """The folder cannot be evaluated; the message names the line and its error."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture and its right answer."""

    #: path of the picture, relative to the folder
    file: str
    path: Path
    #: how it was taken: flat, blur, …
    condition: str
    #: whether it shows a card; if not, every value must stay empty
    is_card: bool
    #: flat, by path; "" if nothing is printed or the value cannot be seen
    values: dict[str, str]
    #: paths of the fields that are covered or cropped
    hidden: frozenset[str]
    #: whether it was drawn by a program: its label then has a seed
    is_synthetic: bool


class _Label(BaseModel):
    """One line of the labels; other members are ignored."""

    file: str = Field(min_length=1)
    condition: str = Field(min_length=1)
    kind: Literal["ktp", "other"]
    fields: dict[str, Any]
    hidden: list[str] = []
    seed: int | None = None

    @field_validator("file")
    @classmethod
    def _is_in_the_folder(cls, file: str) -> str:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise ValueError("must be a file of this folder")
        return file

    @field_validator("fields")
    @classmethod
    def _is_the_contract(cls, fields: dict[str, Any]) -> dict[str, Any]:
        if dict(as_contract(from_contract(fields))) != fields:
            raise ValueError("must have the eleven keys of the contract (alamat: four), and a text for each")
        return fields

    @field_validator("hidden")
    @classmethod
    def _are_columns(cls, hidden: list[str]) -> list[str]:
        for column in hidden:
            if column not in _PATH_OF_COLUMN:
                raise ValueError(f"{column!r} is none of {', '.join(_PATH_OF_COLUMN)}")
        return hidden

    @model_validator(mode="after")
    def _is_empty_where_nothing_can_be_read(self) -> _Label:
        values = from_contract(self.fields)
        if self.kind == "other" and any(values.values()):
            raise ValueError("a picture of kind 'other' must have empty fields")
        for column in self.hidden:
            if values[_PATH_OF_COLUMN[column]]:
                raise ValueError(f"{column!r} is hidden and has a value in 'fields'")
        return self


def read_folder(folder: Path) -> list[LabelledPicture]:
    """The labelled pictures of the folder in the order of its labels. Raises ``BrokenFolder``."""
    try:
        text = (folder / LABELS).read_text(encoding="utf-8")
    except OSError as exc:
        raise BrokenFolder(f"{folder / LABELS} cannot be read: {exc.strerror or exc}.") from exc
    except UnicodeDecodeError as exc:
        raise BrokenFolder(f"{folder / LABELS} is not UTF-8.") from exc
    specimens: dict[str, LabelledPicture] = {}
    for number, specimen in _specimens(folder, text):
        if specimen.file in specimens:
            raise BrokenFolder(f"{folder / LABELS}, line {number}: {specimen.file} stands in an earlier line too.")
        specimens[specimen.file] = specimen
    if not specimens:
        raise BrokenFolder(f"{folder / LABELS} is empty.")
    return list(specimens.values())


def _specimens(folder: Path, text: str) -> Iterator[tuple[int, LabelledPicture]]:
    # Not splitlines(): it would also split at characters that JSON strings may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, _specimen(folder, _Label.model_validate(json.loads(line)))
        except (ValueError, OSError) as exc:
            raise BrokenFolder(f"{folder / LABELS}, line {number}: {_explain(exc)}.") from exc


def _specimen(folder: Path, label: _Label) -> LabelledPicture:
    path = folder / label.file
    if not path.is_file():
        raise FileNotFoundError(f"the picture {label.file} is not in the folder")
    return LabelledPicture(
        file=label.file,
        path=path,
        condition=label.condition,
        is_card=label.kind == "ktp",
        values=from_contract(label.fields),
        hidden=frozenset(_PATH_OF_COLUMN[column] for column in label.hidden),
        is_synthetic=label.seed is not None,
    )


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, column {error.colno})"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        return f"{where}: {what}" if where else what
    return str(error)
