"""Folders of labelled pictures for the evaluation's tests. The pictures are tiny: it is the labels that count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ocr.reading.schema import FIELDS, as_contract, empty_values
from tests.ktp_card import CARD


def label(file: str = "000001.jpg", *, hidden: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    """One line of the labels, of ``CARD`` without its hidden columns."""
    values = {field.path: "" if field.column in hidden else CARD[field.path] for field in FIELDS}
    return {
        "file": file,
        "seed": 7,
        "index": 1,
        "condition": "flat",
        "kind": "ktp",
        "fields": as_contract(values),
        "hidden": list(hidden),
        **changes,
    }


def other_label(file: str, **changes: Any) -> dict[str, Any]:
    """One line of the labels, of a picture that is no card."""
    return label(file, **{"condition": "landscape", "kind": "other", "fields": as_contract(empty_values()), **changes})


def write_folder(folder: Path, labels: Sequence[Mapping[str, Any]]) -> Path:
    """The labels and a picture for each, of 96 x 60 pixels, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(labels):
        picture = Image.new("RGB", (96, 60), (200, 220, (40 * number) % 256))
        ImageDraw.Draw(picture).text((4, 20 + number % 20), "SPECIMEN", fill=(160, 0, 0))
        picture.save(folder / line["file"])
    write_labels(folder, *(json.dumps(line) for line in labels))
    return folder


def write_labels(folder: Path, *lines: str) -> None:
    """``labels.jsonl`` of these lines, right or wrong."""
    (folder / "labels.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
