"""Remove values that come from the prompt and not from the card: the example's values, and placeholders."""

from __future__ import annotations

import re

from ocr.reading.problems import Problem
from ocr.reading.prompt import EXAMPLE
from ocr.reading.schema import FIELD_BY_PATH, FIELDS

#: if this many identifying values equal the prompt's example, every value that equals it counts as copied
ECHO_AT = 2

_PLACEHOLDER = re.compile(
    r"<.*>|\{.*\}|\[.*\]|\(.*\)|[.…_x?*#•]{2,}|\d{1,2}\s*(?:digits?|angka)"
    r"|(?:dd|hh)[-/ ](?:mm|bb)[-/ ](?:yyyy|tttt)|string|str|text|teks|value|nilai|null|none|nan|n/?a"
    r"|tidak (?:terbaca|jelas|ada|diketahui)|unreadable|illegible|unknown|not (?:visible|readable|found|available)",
    re.IGNORECASE,
)


def without_leaks(values: dict[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """``values`` with the values copied from the prompt removed, and a problem for each of them."""
    kept, problems = dict(values), []
    copied = {path for path, value in values.items() if value and _same(value, EXAMPLE[path])}
    leaked = {path for path in copied if FIELD_BY_PATH[path].identifying}
    if len(leaked) >= ECHO_AT:
        leaked = copied
    for field in FIELDS:
        value = values[field.path]
        if field.path in leaked:
            problems.append(Problem(field.path, "example_leak", "error"))
        elif is_placeholder(field.path, value):
            problems.append(Problem(field.path, "placeholder"))
        else:
            continue
        kept[field.path] = ""
    return kept, problems


def is_placeholder(path: str, value: str) -> bool:
    """Whether ``value`` is the field's name, or says that the field is empty or unreadable."""
    if not value:
        return False
    field = FIELD_BY_PATH[path]
    names = {path, field.column, path.rpartition(".")[2], field.label, field.label_en}
    return any(_same(value, name) for name in names) or _PLACEHOLDER.fullmatch(value) is not None


def _same(one: str, other: str) -> bool:
    return " ".join(one.casefold().split()) == " ".join(other.casefold().split())
