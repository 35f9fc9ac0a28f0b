"""A form that was filled in while another user changed the card: the changes of both, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocr.history import KtpChange
from ocr.models import KtpExtraction


@dataclass(frozen=True, slots=True)
class Clash:
    """One field that both have changed, differently."""

    path: str
    theirs: str
    mine: str
    #: the other user's last correction of it
    change: KtpChange


@dataclass(frozen=True, slots=True)
class Conflict:
    """What the page shows after a stale form was sent."""

    #: the other user's changes, oldest first
    changes: Sequence[KtpChange]
    #: path → a value that only the stale form changed; it stays in the form and is not stored yet
    kept: Mapping[str, str]
    #: path → values that both changed; the sender has to choose
    clashes: Mapping[str, Clash]


def find_conflict(card: KtpExtraction, changes: Sequence[KtpChange], sent: Mapping[str, str]) -> Conflict:
    """Separate the sender's own changes in ``sent`` from values that the form only sent back unchanged."""
    theirs: dict[str, list[KtpChange]] = {}
    for change in changes:
        if change.kind == KtpChange.Kind.CORRECTED:
            theirs.setdefault(change.field, []).append(change)
    now = card.values
    kept: dict[str, str] = {}
    clashes: dict[str, Clash] = {}
    for path, mine in sent.items():
        seen = theirs[path][0].old if path in theirs else now[path]
        if mine in (seen, now[path]):
            continue
        if path in theirs:
            clashes[path] = Clash(path, now[path], mine, theirs[path][-1])
        else:
            kept[path] = mine
    return Conflict(changes, kept, clashes)
