"""``python -m training.fine_tune CARDS FOLDER --base MODEL``: teach a released Qwen3-VL your own cards, by LoRA.

CARDS is a folder with ``labels.jsonl`` as ``manage.py make_specimens`` writes it: specimens, or your own labelled
cards. FOLDER gets the merged model, ready to serve.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from inference.engine import torchvision_compat
from ocr.reading import prompt

#: the linear layers that get adapters: attention and feed-forward of the text, and what brings pictures into it
TARGETS = (
    r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)|.*visual\.merger\.linear_fc[12]"
)


def labelled(folder: Path) -> list[tuple[Path, str]]:
    """Image files and the answers to learn, of a folder with ``labels.jsonl``."""
    lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line) for line in lines if line]
    return [(folder / label["file"], json.dumps(label["fields"], ensure_ascii=False, indent=2)) for label in labels]


def example(processor: Any, file: Path, answer: str) -> dict[str, Tensor]:
    """The model's inputs for one card, batch of one, with "labels": -100 on everything but the answer."""
    with Image.open(file) as image:
        picture = image.convert("RGB")
    messages = [
        {
            **message,
            "content": [{**part, "image": picture} if part["type"] == "image" else part for part in message["content"]],
        }
        for message in prompt.messages()
    ]
    inputs = dict(
        processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )
    tokenizer = processor.tokenizer
    said = tokenizer(answer + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    # The template of a thinking model opens the reasoning; reading a card needs an empty one.
    if _opens_thought(tokenizer, inputs["input_ids"]):
        said = torch.cat([tokenizer("\n</think>\n\n", return_tensors="pt")["input_ids"], said], dim=1)
    asked = inputs["input_ids"]
    inputs["labels"] = torch.cat([torch.full_like(asked, -100), said], dim=1)
    inputs["input_ids"] = torch.cat([asked, said], dim=1)
    for name in ("attention_mask", "mm_token_type_ids"):
        fill = torch.ones_like(said) if name == "attention_mask" else torch.zeros_like(said)
        inputs[name] = torch.cat([inputs[name], fill], dim=1)
    return inputs


def _opens_thought(tokenizer: Any, ids: Tensor) -> bool:
    return str(tokenizer.decode(ids[0, -4:])).rstrip().endswith("<think>")


def fine_tune(
    cards: Path,
    folder: Path,
    *,
    base: str,
    steps: int,
    rank: int = 16,
    rate: float = 1e-4,
    cards_a_step: int = 8,
    seed: int = 0,
    cpu: bool = False,
) -> list[float]:
    """Train adapters of ``base`` for ``steps`` steps, write the merged model to ``folder``, and return the losses."""
    torchvision_compat.declare_missing_operators()
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText, AutoProcessor

    on_gpu = torch.cuda.is_available() and not cpu
    accelerator = Accelerator(mixed_precision="bf16" if on_gpu else "no", cpu=cpu)
    processor = AutoProcessor.from_pretrained(base)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.bfloat16 if on_gpu else torch.float32)
    if on_gpu:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    )
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    adapted, optimizer = accelerator.prepare(adapted, torch.optim.AdamW(trained, lr=rate, weight_decay=0.0))
    adapted.train()
    drawn = _endless(labelled(cards), Random(seed))  # noqa: S311
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * max(0.1, 1 - step / steps)
        total = 0.0
        for _ in range(cards_a_step):
            file, answer = next(drawn)
            inputs = {name: tensor.to(accelerator.device) for name, tensor in example(processor, file, answer).items()}
            loss = adapted(**inputs).loss / cards_a_step
            accelerator.backward(loss)
            total += loss.item()
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        accelerator.print(f"step {step + 1} of {steps}: loss {total:.4f}")
    merged = accelerator.unwrap_model(adapted).merge_and_unload()
    merged.save_pretrained(folder)
    processor.save_pretrained(folder)
    return losses


def _endless(cards: list[tuple[Path, str]], random: Random) -> Iterator[tuple[Path, str]]:
    """All cards in random order, again and again."""
    while True:
        yield from random.sample(cards, len(cards))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m training.fine_tune", description=__doc__)
    parser.add_argument("cards", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", required=True, help="a model folder or an id on the hub: Qwen/Qwen3-VL-2B-Thinking")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--cards-a-step", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true")
    chosen = vars(parser.parse_args())
    fine_tune(chosen.pop("cards"), chosen.pop("folder"), **chosen)
