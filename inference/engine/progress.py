"""The progress of loading a model, as reported by the libraries that load it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

#: description of transformers' progress bar
_WEIGHTS_BAR = "Loading weights"
#: description of huggingface_hub's bar for the bytes on the disk; another bar counts the bytes from the network
_DISK_BAR = "Reconstructing"


@dataclass(frozen=True, slots=True)
class Progress:
    """One stage of loading, and how much of it is done."""

    #: a short description, such as "loading the weights"
    stage: str
    #: bytes of a download, otherwise tensors
    done: int = 0
    #: 0 when there is nothing to count; that of a download grows while its files are found
    total: int = 0
    in_bytes: bool = False

    def __str__(self) -> str:
        if not self.total:
            return self.stage
        if self.in_bytes:
            return f"{self.stage}: {self.done / 1e6:,.1f} of {self.total / 1e6:,.1f} MB ({self.percent}%)"
        return f"{self.stage}: {self.done} of {self.total} ({self.percent}%)"

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


Listener = Callable[[Progress], None]


@contextlib.contextmanager
def weights_counted(stage: str, listener: Listener) -> Iterator[None]:
    """Report the weights that transformers loads within this context, at every percent."""
    from transformers.utils.logging import set_tqdm_hook

    def make_bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and kwargs.get("desc") == _WEIGHTS_BAR:
            return _counted(args[0], stage, listener)
        return factory(*args, **kwargs)

    previous = set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        set_tqdm_hook(previous)


def _counted(weights: Collection[Any], stage: str, listener: Listener) -> Iterator[Any]:
    told = -1
    for done, weight in enumerate(weights, start=1):
        yield weight
        progress = Progress(stage, done, len(weights))
        if progress.percent != told:
            told = progress.percent
            listener(progress)


def bytes_bar(stage: str, listener: Listener) -> type[Any]:
    """A class for huggingface_hub's ``tqdm_class`` that draws nothing and reports the bytes on the disk."""
    from tqdm import tqdm

    class BytesBar(tqdm):
        # No thread to redraw bars that are never shown.
        monitor_interval = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._told = (-1, 0)
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def display(self, *args: Any, **kwargs: Any) -> None:
            pass

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            if str(self.desc).startswith(_DISK_BAR) and self.total:
                progress = Progress(stage, int(self.n), int(self.total), in_bytes=True)
                if (progress.percent, progress.total) != self._told:
                    self._told = (progress.percent, progress.total)
                    listener(progress)
            return drawn

    return BytesBar
