"""A whole life in small: train, stop, go on, export, serve, fine-tune."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ocr.reading import prompt
from ocr.specimens import make_specimen
from ocr.specimens.folder import write_specimens
from tests.waiting import wait_for
from training import checkpoint
from training.train import Trainer, parse_options

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TRAIN = ["-m", "training.train"]
OPTIONS = ["--size=tiny", "--batch=2", "--precision=no", "--cpu", "--processes=1"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


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
    return parse_options([str(folder), *OPTIONS])


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.export import export

    return export(run, tmp_path_factory.mktemp("exported"))


def test_a_stopped_run_goes_on_where_it_was(run: Path) -> None:
    state = checkpoint.load(run)
    assert state["progress"].step == 6
    assert state["progress"].card_batches == 3
    assert state["progress"].page_batches == 6
    trainer = Trainer(_options(run))
    stored = state["model"]["lm_head.weight"]
    assert torch.equal(trainer.model.lm_head.weight.detach().cpu(), stored)
    assert not torch.equal(state["average"]["lm_head.weight"], stored)


def test_two_trainers_share_one_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    before = checkpoint.load(run)["progress"]
    minutes = before.seconds / 60 + 0.1
    command = [*TORCHRUN, "--nproc-per-node=2", *TRAIN, str(tmp_path / "run"), *OPTIONS, f"--minutes={minutes}"]
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    state = checkpoint.load(tmp_path / "run")
    steps = state["progress"].step - before.step
    assert steps > 0
    assert state["progress"].page_batches == before.page_batches + steps
    assert state["progress"].card_batches == before.card_batches + steps // 2
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    # Both have had batches of two at each of these steps.
    assert last["cards"] == state["progress"].card_batches * 2 * 2
    assert all(weight.isfinite().all() for weight in state["model"].values())


def test_a_run_that_is_told_to_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, *TRAIN, str(tmp_path), *OPTIONS], cwd=ROOT, env=ONE_THREAD)
    try:
        wait_for(lambda: (tmp_path / "log.jsonl").exists(), seconds=240)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    assert checkpoint.load(tmp_path)["progress"].step >= 20


def test_a_run_says_how_well_held_out_cards_are_read(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "flat_field_exact" in line]
    assert [line["step"] for line in scored] == [3, 6]
    assert all(0 <= line["all_nik_digits"] <= 1 for line in scored)


def test_a_run_is_plotted(run: Path, tmp_path: Path) -> None:
    from training.plot import plot

    plot(run / "log.jsonl", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_reader_is_served_by_the_engine(exported: Path, collect: Callable[..., Any]) -> None:
    from inference.engine.engine import Engine
    from inference.engine.loading import load_model
    from inference.engine.types import GenerationRequest, Sampling

    assert json.loads((exported / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = load_model(str(exported), device_map="cpu")
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
    assert answer.finish.prompt_tokens < 700


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
