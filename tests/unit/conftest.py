"""The small model loaded, engines over it, and requests for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def known_fonts() -> None:
    """matplotlib lists the machine's fonts by a process when it is first used there, and keeps the list."""
    import matplotlib.font_manager  # noqa: F401


@pytest.fixture(autouse=True)
def start_no_processes(known_fonts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who do are in ``tests/processes``. The processes that decode images start in another way."""

    def refuse(process: Any, command: Any, *args: Any, **options: Any) -> None:
        pytest.fail(f"tests/unit starts no process: {command}")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture(scope="session")
def loaded(tiny_model: Path) -> Any:
    import torch

    from inference.engine.loading import load_model

    # At this size a second thread costs more than it brings.
    torch.set_num_threads(1)
    return load_model(str(tiny_model), dtype="float32", device_map="cpu")


@pytest.fixture(scope="session")
def own_layers(tiny_model: Path) -> Any:
    """The small model as transformers loads it. No engine gets it: an engine holds the weights in other forms."""
    from inference.engine.loading import load_model

    return load_model(str(tiny_model), dtype="float32", device_map="cpu")


@pytest.fixture
def start_engine(loaded: Any) -> Iterator[Callable[..., Any]]:
    """Starts engines and stops them at the end of the test."""
    from inference.engine.engine import Engine

    engines = []

    def start(model: Any = loaded, **options: Any) -> Any:
        engine = Engine(model, **{"max_batch_size": 8, **options})
        engines.append(engine)
        engine.start()
        return engine

    yield start
    for engine in engines:
        assert engine.stop(timeout_seconds=20)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="session")
def make_request() -> Callable[..., Any]:
    """make_request("text" | "image" | "video" | "both", text=…, resume_ids=…, **sampling)"""
    from inference.engine.types import GenerationRequest, Sampling, Video

    def make(kind: str = "text", *, text: str = "Apa kabar?", resume_ids: Any = (), **sampling: Any) -> Any:
        content: list[dict[str, str]] = []
        images, videos = [], []
        if kind in ("image", "both"):
            content.append({"type": "image"})
            images.append(Image.fromarray(_noise(90, 140, 3)))
        if kind in ("video", "both"):
            content.append({"type": "video"})
            videos.append(Video(_noise(5, 64, 96, 3), [0.0, 0.4, 1.2, 2.0, 3.3]))
        content.append({"type": "text", "text": text})
        return GenerationRequest(
            messages=[{"role": "user", "content": content}],
            sampling=Sampling(**{"max_tokens": 40, **sampling}),
            images=images,
            videos=videos,
            resume_ids=resume_ids,
        )

    return make


@pytest.fixture(scope="session")
def collect() -> Callable[..., Any]:
    """Iterates a handle to its end: deltas, ids, text, reasoning, finish."""
    from inference.engine.types import Delta

    def run(handle: Any) -> SimpleNamespace:
        *deltas, finish = handle
        assert all(isinstance(delta, Delta) for delta in deltas)
        return SimpleNamespace(
            deltas=deltas,
            ids=[i for delta in deltas for i in delta.token_ids],
            text="".join(delta.text for delta in deltas),
            reasoning="".join(delta.reasoning for delta in deltas),
            finish=finish,
        )

    return run
