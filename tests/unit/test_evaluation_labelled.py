"""A folder of labelled pictures is read line by line, and a broken line is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocr.evaluation.labelled import BrokenFolder, read_folder
from ocr.reading.schema import as_contract, from_contract
from tests.ktp_card import CARD
from tests.labelled_cards import label, other_label, write_folder, write_labels


def test_labels_become_specimens_in_their_order(tmp_path: Path) -> None:
    write_folder(
        tmp_path,
        [
            label("b.jpg", condition="covered", hidden=["nama", "alamat_rt_rw"]),
            other_label("a.png"),
            {name: value for name, value in label("c.jpg").items() if name not in ("seed", "index", "hidden")},
        ],
    )
    covered, other, photographed = read_folder(tmp_path)
    assert (covered.file, covered.path, covered.condition) == ("b.jpg", tmp_path / "b.jpg", "covered")
    assert covered.is_card
    assert covered.hidden == {"nama", "alamat.rt_rw"}
    assert covered.values == CARD | {"nama": "", "alamat.rt_rw": ""}
    assert not other.is_card
    assert not any(other.values.values())
    # People's own cards have no seed.
    assert [specimen.is_synthetic for specimen in (covered, other, photographed)] == [True, True, False]


def test_characters_that_only_python_takes_for_line_ends_are_no_line_ends(tmp_path: Path) -> None:
    write_folder(tmp_path, [label()])
    fields = as_contract(CARD | {"nama": "A\u2028B"})
    write_labels(tmp_path, json.dumps(label(fields=fields), ensure_ascii=False), "", "")
    [specimen] = read_folder(tmp_path)
    assert specimen.values["nama"] == "A\u2028B"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in label().items() if key != name}


def fields_with(**changes: Any) -> dict[str, Any]:
    return label(fields={**as_contract(CARD), **changes})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"file": "000001.jpg",', "not JSON (Expecting property name enclosed in double quotes, column 23)"),
        ("[]", "Input should be a valid dictionary"),
        (json.dumps(without("file")), "file: Field required"),
        (json.dumps(without("condition")), "condition: Field required"),
        (json.dumps(without("fields")), "fields: Field required"),
        (json.dumps(label(kind="sim")), "kind: Input should be 'ktp' or 'other'"),
        (json.dumps(label(seed="x")), "seed: Input should be a valid integer"),
        (json.dumps(label("../000001.jpg")), "file: must be a file of this folder"),
        (json.dumps(label("/etc/hostname")), "file: must be a file of this folder"),
        (json.dumps(label("missing.jpg")), "the picture missing.jpg is not in the folder"),
        (json.dumps(fields_with(nik=3171)), "fields: must have the eleven keys of the contract"),
        (json.dumps(fields_with(gol_darah="A")), "fields: must have the eleven keys of the contract"),
        (json.dumps(fields_with(alamat="JL. MAWAR")), "fields: must have the eleven keys of the contract"),
        (json.dumps(fields_with(alamat={"name": "JL. MAWAR"})), "fields: must have the eleven keys of the contract"),
        (json.dumps({**label(), "hidden": ["alamat.rt_rw"]}), "hidden: 'alamat.rt_rw' is none of nik, nama,"),
        (json.dumps({**label(), "hidden": ["nama"]}), "'nama' is hidden and has a value in 'fields'"),
        (json.dumps(label(kind="other")), "a picture of kind 'other' must have empty fields"),
        (json.dumps(label("first.jpg")), "first.jpg stands in an earlier line too"),
    ],
)
def test_a_broken_line_is_named_with_what_is_wrong(tmp_path: Path, line: str, complaint: str) -> None:
    write_folder(tmp_path, [label("first.jpg"), label("000001.jpg")])
    write_labels(tmp_path, json.dumps(label("first.jpg")), "", line)
    with pytest.raises(BrokenFolder) as refusal:
        read_folder(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / 'labels.jsonl'}, line 3: ")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_printed_on_a_card_is_not_in_the_complaint(tmp_path: Path) -> None:
    write_folder(tmp_path, [label()])
    write_labels(tmp_path, json.dumps(fields_with(nik=None)))
    with pytest.raises(BrokenFolder) as refusal:
        read_folder(tmp_path)
    assert CARD["nama"] not in str(refusal.value)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFolder, match=r"labels\.jsonl cannot be read: No such file"):
        read_folder(tmp_path)
    write_labels(tmp_path)
    with pytest.raises(BrokenFolder, match=r"labels\.jsonl is empty"):
        read_folder(tmp_path)
    (tmp_path / "labels.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BrokenFolder, match="is not UTF-8"):
        read_folder(tmp_path)


def test_the_contract_and_the_flat_reading_are_the_same_both_ways() -> None:
    assert from_contract(dict(as_contract(CARD))) == CARD
    assert from_contract({"nik": None, "alamat": "JL. MAWAR", "other": "x"}) == dict.fromkeys(CARD, "")
