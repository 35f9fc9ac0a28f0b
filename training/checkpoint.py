"""All that a training run needs to go on after it was stopped, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FILE = "checkpoint.pt"


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    #: batches drawn so far, so that none is drawn again
    card_batches: int = 0
    page_batches: int = 0
    #: seconds of training, over all starts
    seconds: float = 0.0
    #: whether the vision tower recognises letters well enough to start with cards
    reading: bool = False
    #: the step at which that was so
    reading_since: int = 0
    #: moving mean of the share of letters that the eye gets right on pages
    eye: float = 0.0


def save(folder: Path, *, size: str, seed: int, progress: Progress, parts: dict[str, Any]) -> Path:
    """Write ``parts`` (name to module, optimizer or state) and the progress; a crash leaves the old file."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state["progress"] = {name: getattr(progress, name) for name in Progress.__slots__}
    state |= {"size": size, "seed": seed}
    unfinished = folder / f"{FILE}.unfinished"
    torch.save(state, unfinished)
    return unfinished.replace(folder / FILE)


def load(path: Path) -> dict[str, Any]:
    """What ``save`` wrote, from its file or the folder that holds it; "progress" is a Progress."""
    state: dict[str, Any] = torch.load(path / FILE if path.is_dir() else path, map_location="cpu", weights_only=True)
    state["progress"] = Progress(**state["progress"])
    return state
