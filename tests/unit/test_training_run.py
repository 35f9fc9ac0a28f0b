"""A whole life in small: train, stop, go on, export, serve, fine-tune."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ocr import prompt
from ocr.specimens import make_specimen
from ocr.specimens.folder import write_specimens
from training import checkpoint
from training.train import Trainer, parse_options


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smallest reader that has begun to read cards, stopped twice."""
    folder: Path = tmp_path_factory.mktemp("run")
    for _ in range(2):
        trainer = Trainer(_options(folder))
        # An eye that already sees: reading is what takes part in all of the code.
        trainer.progress.eye, trainer.progress.reading = 0.9, True
        trainer.run(steps=trainer.progress.step + 3)
    return folder


def _options(folder: Path) -> Any:
    return parse_options([str(folder), "--size=tiny", "--batch=2", "--precision=no", "--cpu", "--processes=1"])


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.export import export

    return export(run, tmp_path_factory.mktemp("exported"))


def test_a_stopped_run_goes_on_where_it_was(run: Path) -> None:
    state = checkpoint.load(run)
    assert state["progress"].step == 6
    assert state["progress"].card_batches == 6
    assert state["progress"].page_batches == 3
    trainer = Trainer(_options(run))
    stored = state["model"]["lm_head.weight"]
    assert torch.equal(trainer.model.lm_head.weight.detach().cpu(), stored)
    assert not torch.equal(state["average"]["lm_head.weight"], stored)


def test_a_run_says_how_well_held_out_cards_are_read(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "flat_field_exact" in line]
    assert [line["step"] for line in scored] == [3, 6]
    assert all(0 <= line["all_nik_digits"] <= 1 for line in scored)


def test_a_run_is_plotted(run: Path, tmp_path: Path) -> None:
    from training.plot import plot

    plot(run, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_reader_is_served_by_the_engine(exported: Path, collect: Callable[..., Any]) -> None:
    from inference.engine.engine import Engine
    from inference.engine.loading import load_model
    from inference.engine.types import GenerationRequest, Sampling

    loaded = load_model(str(exported), device_map="cpu")
    assert loaded.dtype == "bfloat16"
    engine = Engine(loaded, max_batch_size=2)
    engine.start()
    try:
        image = make_specimen(1, 1, "flat").image
        request = GenerationRequest(
            messages=prompt.messages(), sampling=Sampling(max_tokens=12, ignore_eos=True), images=[image]
        )
        answer = collect(engine.submit(request))
    finally:
        assert engine.stop(timeout_seconds=20)
    assert answer.finish.completion_tokens == 12
    assert answer.finish.prompt_tokens < 200


def test_an_export_says_what_it_came_from(exported: Path) -> None:
    facts = json.loads((exported / "training.json").read_text())
    assert facts["steps"] == 6
    assert facts["size"] == "tiny"


def test_an_export_overwrites_nothing(run: Path, exported: Path) -> None:
    from training.export import export

    with pytest.raises(FileExistsError):
        export(run, exported)


# The library warns about targets by pattern and about where the base model's weights come from.
@pytest.mark.filterwarnings("ignore")
def test_a_released_model_learns_labelled_cards_by_adapters(exported: Path, tmp_path: Path) -> None:
    from inference.engine.loading import load_model
    from training.fine_tune import fine_tune

    for _ in write_specimens(tmp_path / "cards", count=2, seed=1, conditions=["flat"], width=512):
        pass
    losses = fine_tune(
        tmp_path / "cards",
        tmp_path / "tuned",
        base=str(exported),
        steps=12,
        rank=4,
        rate=1e-2,
        cards_a_step=2,
        cpu=True,
    )
    assert losses[-1] < losses[0]
    before, after = load_model(str(exported), dtype="float32"), load_model(str(tmp_path / "tuned"), dtype="float32")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(before.model.state_dict()[name], after.model.state_dict()[name])
    assert torch.equal(before.model.lm_head.weight, after.model.lm_head.weight)
