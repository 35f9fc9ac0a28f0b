"""What do the limits on media cost those who send ordinary ones?

It starts a server from this checkout and one from another, with the same small local model, and asks both the same, in
turns: chats about photographs and about short videos, alone and eight at once. No picture comes twice:

    git worktree add ../before COMMIT
    python -m benchmarks.media --against ../before

Exit status 0 only when this checkout is at most 5% slower alone, and not slower at eight at once.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import io
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.serve.clients import run_clients
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import EmbeddedStack

AT_ONCE = (1, 8)
#: requests of a turn, for each number at once
REQUESTS = {1: 6, 8: 16}
#: of the other checkout's rate, or of its speed to the first token
MIN_RATIO = {1: 0.95, 8: 1.0}
PHOTO_SIZE = (1600, 1200)
VIDEO_SIZE, VIDEO_RATE, VIDEO_SECONDS = (640, 360), 10, 10
SETTINGS: dict[str, object] = {"SESSION_LEASE_SECONDS": 60}


@dataclasses.dataclass(slots=True)
class Figure:
    """One measurement of both checkouts; the ratio is over 1 where this one is better."""

    name: str
    at_once: int
    is_rate: bool
    ours: list[float] = dataclasses.field(default_factory=list)
    theirs: list[float] = dataclasses.field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of those of the rounds."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return statistics.median(ours / theirs if self.is_rate else theirs / ours for ours, theirs in pairs)

    @property
    def is_good(self) -> bool:
        return self.ratio >= MIN_RATIO[self.at_once]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"ratio": self.ratio, "is_good": self.is_good}

    def line(self) -> str:
        return (
            f"{self.name:24}{self.at_once:>8}{statistics.median(self.ours):>12.2f}"
            f"{statistics.median(self.theirs):>12.2f}{self.ratio:>8.2f}{'' if self.is_good else '  slower'}"
        )


HEADER = f"{'':24}{'at once':>8}{'this':>12}{'the other':>12}{'ratio':>8}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="sambung-benchmark-") as folder:
            figures = measure(Path(folder), options.against, options.rounds, time.monotonic() + 60 * options.minutes)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 1
    print("\n".join([HEADER, *(figure.line() for figure in figures)]))
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=2) + "\n")
    return 0 if all(figure.is_good for figure in figures) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.media", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, metavar="PATH", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5, help="in which they take turns (default 5)")
    parser.add_argument("--minutes", type=float, default=10, help="after which no round is begun (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    options = parser.parse_args(arguments)
    if not (options.against / "manage.py").is_file():
        parser.error(f"there is no manage.py in {options.against}")
    return options


def measure(folder: Path, against: Path, rounds: int, end: float) -> list[Figure]:
    """All figures; at least one round, and after ``end`` (of the monotonic clock) none more."""
    model = build_tiny_model(folder / "model")
    figures: dict[tuple[str, int], Figure] = {}
    with contextlib.ExitStack() as running:
        ours, theirs = (
            running.enter_context(serving(folder / name, model, root))
            for name, root in (("ours", EmbeddedStack.root), ("theirs", against.resolve()))
        )
        # What the first request of a kind loads is not asked for.
        for port in (ours.port, theirs.port):
            run_clients(port, [body("photograph", 0), body("video", 0)])
        numbers = itertools.count(1)
        for number in range(rounds):
            if number and time.monotonic() > end:
                break
            # The server that is first in one round is second in the next.
            stacks = {"ours": ours, "theirs": theirs} if number % 2 else {"theirs": theirs, "ours": ours}
            for kind, at_once in itertools.product(("photograph", "video"), AT_ONCE):
                bodies = [body(kind, next(numbers)) for _ in range(REQUESTS[at_once])]
                found = {name: run_clients(stack.port, bodies, at_once=at_once) for name, stack in stacks.items()}
                amount = len(bodies) * (VIDEO_SECONDS if kind == "video" else 1)
                rates = {name: amount / each["seconds"] for name, each in found.items()}
                first = {name: 1000 * statistics.median(each["first_text_seconds"]) for name, each in found.items()}
                for what, both, is_rate in (
                    ("video seconds/s" if kind == "video" else "photographs/s", rates, True),
                    (f"{kind}: first text, ms", first, False),
                ):
                    figure = figures.setdefault((what, at_once), Figure(what, at_once, is_rate))
                    figure.ours.append(both["ours"])
                    figure.theirs.append(both["theirs"])
    return list(figures.values())


@contextlib.contextmanager
def serving(folder: Path, model: Path, root: Path) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(folder, model, **SETTINGS)
    stack.root = root
    try:
        yield stack.start()
    finally:
        stack.stop()


def body(kind: str, number: int) -> dict[str, Any]:
    """A chat about a photograph or a video, another for each number."""
    encoded = base64.b64encode(video(number) if kind == "video" else photograph(number)).decode()
    medium: dict[str, Any]
    if kind == "video":
        medium = {"type": "input_video", "b64_json": encoded}
    else:
        medium = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}
    content = [medium, {"type": "text", "text": "Apa yang terlihat?"}]
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def scene(number: int, size: tuple[int, int]) -> Image.Image:
    """Something between noise and a photograph."""
    small = np.random.default_rng(number).integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def photograph(number: int) -> bytes:
    target = io.BytesIO()
    scene(number, PHOTO_SIZE).save(target, "JPEG", quality=85)
    return target.getvalue()


def video(number: int) -> bytes:
    """The view glides over a scene."""
    width, height = VIDEO_SIZE
    frames = VIDEO_RATE * VIDEO_SECONDS
    wide = np.asarray(scene(number, (width + frames, height)))
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=VIDEO_RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, n : n + width]), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


if __name__ == "__main__":
    sys.exit(main())
