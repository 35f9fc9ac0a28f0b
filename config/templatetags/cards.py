"""The rows of the admin's lists as cards: on a phone, each cell shows the name of its column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from django import template
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst

register = template.Library()


@register.filter
def labelled(cells: Iterable[str], headers: Iterable[Mapping[str, Any]]) -> Iterator[SafeString]:
    """Django's finished cells (``<td …>…</td>``), with the name of the column in ``data-label``.

    The column of checkboxes has no name, nor have cells beyond the headers.
    """
    for cell, header in zip_longest(cells, headers, fillvalue=None):
        if cell is None:
            return
        html = conditional_escape(cell)
        if header is not None and "action-checkbox" not in header.get("class_attrib", ""):
            label = format_html(' data-label="{}">', capfirst(header["text"]))
            # The first ">" ends the opening tag: Django escapes those in its attributes.
            html = mark_safe(html.replace(">", label, 1))  # noqa: S308
        yield html
