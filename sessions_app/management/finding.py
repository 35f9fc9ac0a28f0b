"""Finding what an operator names on a terminal: by its whole id, or by a beginning that no other has."""

from __future__ import annotations

from typing import TypeVar

from django.core.management.base import CommandError
from django.db import models

M = TypeVar("M", bound=models.Model)

#: maximum number of candidates that an error lists
MAX_LISTED = 5


def find_one(queryset: models.QuerySet[M], named: str) -> M:
    """The row whose primary key is ``named`` or begins so; lists show keys cut, with a "…".

    Raises ``CommandError`` when there is none, or more than one.
    """
    beginning = named.rstrip("…")
    kind = queryset.model._meta.verbose_name
    if (row := queryset.filter(pk=named).first()) is not None:
        return row
    found = list(queryset.filter(pk__startswith=beginning)[: MAX_LISTED + 1]) if beginning else []
    if not found:
        raise CommandError(f"There is no {kind} {named}.")
    if len(found) > 1:
        names = ", ".join(str(row.pk) for row in found[:MAX_LISTED])
        raise CommandError(f"Several {kind}s begin with {named}: {names}{', …' if found[MAX_LISTED:] else ''}")
    return found[0]
