"""Output of commands: aligned tables, JSON, and untrusted text that cannot move the cursor."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import DjangoHelpFormatter

from sessions_app.log_lines import printable

#: space between two columns
GAP = "  "


class ExamplesKept(argparse.RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Leaves the lines of the examples under a command's help as they are."""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest value; the last is not padded."""
    lines = [list(heads), *([printable(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        GAP.join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_json(value: Any) -> str:
    """Times as ISO 8601 in UTC."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def as_json_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def shown(text: str) -> str:
    """A model's text with its line breaks; other characters that control the terminal are written as escapes."""
    return "\n".join(GAP.join(map(printable, line.split("\t"))) for line in text.split("\n"))
