"""``python -m training.export CHECKPOINT FOLDER``: a folder that Transformers, and so this server, loads as a model."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from training import checkpoint
from training.reader_model import SIZES, make_model, make_processor


def export(source: Path, folder: Path) -> Path:
    """Write the averaged weights of ``source`` (a checkpoint or its run's folder) to ``folder`` in bfloat16; return it.

    The folder also says what it came from, in ``training.json``. Raises FileExistsError unless it is new or empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty.")
    state = checkpoint.load(source)
    processor = make_processor(SIZES[state["size"]])
    model = make_model(processor.tokenizer, SIZES[state["size"]], seed=state["seed"])
    model.load_state_dict(state["average"])
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    progress = state["progress"]
    facts = {
        "size": state["size"],
        "seed": state["seed"],
        "steps": progress.step,
        "hours": round(progress.seconds / 3600, 2),
        "weights": sum(weight.numel() for weight in model.parameters()),
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    log = (source if source.is_dir() else source.parent) / "log.jsonl"
    if log.exists():
        shutil.copyfile(log, folder / "training-log.jsonl")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    export(options.checkpoint, options.folder)
