"""All hostile requests. Each stands for a kind: something that a server does for a request, many times over."""

from __future__ import annotations

from benchmarks.loop import hostile_chats, hostile_manners, hostile_transfers
from benchmarks.loop.hostile import Hostile


def catalogue() -> list[Hostile]:
    """In the order in which they are sent; names are unique."""
    return [
        *hostile_chats.lists(),
        *hostile_transfers.forms(),
        *hostile_transfers.oversized(),
        *hostile_transfers.media(),
        *hostile_chats.prompts(),
        *hostile_chats.json(),
        *hostile_chats.fields(),
        *hostile_manners.heads(),
        *hostile_manners.manners(),
    ]


def named(name: str) -> Hostile:
    return next(hostile for hostile in catalogue() if hostile.name == name)
