"""CSV that spreadsheets open as it is meant: text stays text, and no cell is a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

#: Excel takes a file for UTF-8 only if it begins with this
BOM = "\ufeff"
#: a cell that begins with one of these is run as a formula by some spreadsheet
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: what a spreadsheet would take for a number, and so lose its last digits (a NIK), or for a date (RT/RW "001/002")
_NO_TEXT = re.compile(r"\d{12,}|\d+/\d+")
#: a formula after a separator: where the comma is for decimals, spreadsheets split the lines of a CSV at semicolons
_INNER_FORMULA = re.compile(rf"([;,\t]\s*)([{re.escape(''.join(FORMULA))}])")


def harmless(cell: object) -> str:
    """The cell as text. What a spreadsheet would run, or take for anything but text, gets an apostrophe before it."""
    text = _INNER_FORMULA.sub(r"\1'\2", "" if cell is None else str(cell))
    return f"'{text}" if text.startswith(FORMULA) or _NO_TEXT.fullmatch(text) else text


def as_csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A whole file: UTF-8 with a byte order mark, every cell quoted."""
    return csv_head(heads) + csv_lines(rows)


def csv_head(heads: Sequence[str]) -> bytes:
    """The beginning of a file, for one that is made in pieces."""
    return BOM.encode() + csv_lines([heads])


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """The lines of these rows."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
