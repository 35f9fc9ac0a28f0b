"""All abusive requests and floods, in the order in which they are sent; names are unique."""

from __future__ import annotations

from benchmarks.abuse import crowds, media, texts
from benchmarks.loop.hostile import Hostile


def catalogue() -> list[Hostile]:
    return [*media.pictures(), *media.videos(), *media.hosts(), *media.cards(), *texts.texts(), *crowds.crowds()]


def named(name: str) -> Hostile:
    return next(hostile for hostile in catalogue() if hostile.name == name)
