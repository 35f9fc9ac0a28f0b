"""CSV for spreadsheets: text stays text, and no cell runs as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

#: byte order mark; Excel recognises UTF-8 only by it
BOM = "\ufeff"
#: some spreadsheets run a cell that begins with one of these as a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: text that spreadsheets mistake for a number, whose last digits they lose (a NIK), or for a date (RT/RW "001/002")
_NO_TEXT = re.compile(r"\d{12,}|\d+/\d+")
#: a formula after a semicolon, which is the separator in countries with decimal commas
_INNER_FORMULA = re.compile(rf"([;,\t]\s*)([{re.escape(''.join(FORMULA))}])")


def harmless(cell: object) -> str:
    """The cell as text. If a spreadsheet would not treat it as text, an apostrophe is put before it."""
    text = _INNER_FORMULA.sub(r"\1'\2", "" if cell is None else str(cell))
    return f"'{text}" if text.startswith(FORMULA) or _NO_TEXT.fullmatch(text) else text


def as_csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A whole file: UTF-8 with a byte order mark, every cell quoted."""
    return csv_head(heads) + csv_lines(rows)


def csv_head(heads: Sequence[str]) -> bytes:
    """The beginning of a file that is written in pieces."""
    return BOM.encode() + csv_lines([heads])


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """These rows as lines."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
