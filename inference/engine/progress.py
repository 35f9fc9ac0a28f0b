"""How far a model has come while it loads, as the libraries that load it tell."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

#: what transformers calls its own bar
_WEIGHTS_BAR = "Loading weights"
#: what huggingface_hub calls the bar of the bytes that are on the disk; another one counts what came over the network
_DISK_BAR = "Reconstructing"


@dataclass(frozen=True, slots=True)
class Progress:
    """One stage of loading, and how much of it is done."""

    #: in a few words, such as "loading the weights"
    stage: str
    #: bytes of a download, else tensors
    done: int = 0
    #: 0 where there is nothing to count; a download's grows while its files are found
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
    """Tell of the weights that transformers loads meanwhile, at every percent."""
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
    """A class for huggingface_hub's ``tqdm_class`` that draws nothing and tells of the bytes that are on the disk."""
    from tqdm import tqdm

    class BytesBar(tqdm):
        # No thread that redraws bars that nobody sees.
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
