"""``python -m training.train FOLDER``: train the small reader, or go on where FOLDER left off."""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from inference.tiny_models.vision import END_OF_TURN
from training import checkpoint
from training.answers import skeleton
from training.checkpoint import Progress
from training.examples import ALPHABET, TOKEN_SIDE
from training.feed import Batch, Feed, Plan, card_batch
from training.guidance import EyeQuestions, Guide
from training.optimizers import Optimizer
from training.passes import Passes, Seen
from training.reader_model import SIZES, make_model, make_processor
from training.scoring import score
from training.text_prompts import PROMPTS, text_rows, what_it_is

#: seed of the cards that are never trained on
HELD_OUT_SEED = 990_001
LEARNING_RATE = 4e-3
WARM_UP_STEPS = 150
#: the last part of the run, in which the rate falls to nothing: at the full rate the eye hovers
FALLS_FOR = 0.85
#: share of letters on pages that the eye must get right before cards are read; one that is seen at the edge of its
#: place and named in the next counts as wrong, so that a good eye gets some 80%
READS_FROM = 0.6
#: of the averaged weights, which are what is exported; a late average does what a falling rate does
AVERAGE = 0.998
GUIDE_WEIGHT, LETTERS_WEIGHT, FIELDS_WEIGHT, TEXT_WEIGHT = 0.3, 0.5, 0.1, 0.1
#: steps; pages come at every step: they cost little, and no card is read better than its letters are seen
CARDS_EVERY, TEXT_EVERY, LOG_EVERY = 2, 8, 20


class Trainer:
    """One run: the model, what is asked of it, the feeds, and the loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder: Path = options.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._options = options
        if options.threads:
            torch.set_num_threads(options.threads)
        self._accelerator = Accelerator(mixed_precision=options.precision, cpu=options.cpu)
        stored = checkpoint.load(self.folder) if (self.folder / checkpoint.FILE).exists() else None
        self._size_name: str = stored["size"] if stored else options.size
        self._seed: int = stored["seed"] if stored else options.seed
        size = SIZES[self._size_name]
        processor = make_processor(size)
        self._tokenizer = processor.tokenizer
        model = make_model(self._tokenizer, size, seed=self._seed)
        questions = EyeQuestions(size.text_width)
        if stored:
            model.load_state_dict(stored["model"])
            questions.load_state_dict(stored["questions"])
        device = self._accelerator.device
        self.model, self._questions = model.to(device), questions.to(device)
        self._average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self._passes, self._average_passes = Passes(self.model, processor), Passes(self._average, processor)
        # The last two layers but one: letters must be found before they can be written.
        self._guide = Guide(self.model, (size.text_depth - 3, size.text_depth - 2))
        self._optimizer = Optimizer((self.model, self._questions), rate=options.rate)
        self.progress = Progress()
        if stored:
            self._average.load_state_dict(stored["average"])
            self._optimizer.load_state_dict(stored["optimizer"])
            self.progress = stored["progress"]
        ids = self._tokenizer.convert_tokens_to_ids
        pieces = {piece: ids(piece) for piece in skeleton()}
        letters = {c: self._tokenizer.encode(c)[0] for c in ALPHABET + " "}
        self._pieces = set(pieces.values())
        self._plan = Plan(
            seed=self._seed,
            size=(size.picture_width, size.picture_height),
            cards=options.batch,
            pages=2 * options.batch,
            fonts=tuple(options.fonts),
            vocabulary=pieces | letters,
            end_of_turn=ids(END_OF_TURN),
            repeats=options.repeats,
        )
        self._text = text_rows(self._tokenizer)
        self._so_far = torch.tensor(what_it_is(self._tokenizer))
        self._stopped = False

    def run(self, *, steps: int | None = None) -> None:
        """Train until the time is up, step ``steps`` is done or ``stop``; checkpoints are written meanwhile and last.

        If it is killed, what was learned since the last checkpoint is lost.
        """
        options, progress = self._options, self.progress
        feeds = {
            kind: Feed(
                self._plan,
                kind,
                processes=options.processes,
                done=getattr(progress, f"{one}_batches"),
                share=(self._accelerator.process_index, self._accelerator.num_processes),
            )
            for kind, one in (("pages", "page"), ("cards", "card"))
        }
        streams: dict[str, Iterator[Batch]] = {kind: iter(feed) for kind, feed in feeds.items()}
        held_out = self._held_out()
        saved = progress.seconds
        last = time.monotonic()
        try:
            while progress.seconds < options.minutes * 60 and progress.step != steps:
                said = self._step(streams)
                now = time.monotonic()
                said = self._agreed({"seconds": now - last, "stopped": float(self._stopped)} | said)
                progress.seconds += said.pop("seconds")
                last = now
                self._consider_reading(said)
                if said.pop("stopped"):
                    break
                if progress.step % LOG_EVERY == 0:
                    self._log(said)
                if progress.seconds - saved > options.checkpoint_seconds:
                    self._save_and_score(held_out)
                    saved = progress.seconds
        finally:
            for feed in feeds.values():
                feed.close()
        self._save_and_score(held_out)

    def stop(self, *_: Any) -> None:
        """Ask ``run`` to end after its current step. May be called from any thread and from a signal handler."""
        self._stopped = True

    def _step(self, streams: dict[str, Iterator[Batch]]) -> dict[str, float]:
        progress = self.progress
        progress.step += 1
        # The text begins from nothing when the eye already sees, and must not blind it again.
        warm = min(1.0, (progress.step - progress.reading_since) / WARM_UP_STEPS)
        left = 1 - progress.seconds / 60 / self._options.minutes
        self._optimizer.set_rate(self._options.rate * min(warm, max(left / FALLS_FOR, 0.01)))
        said: dict[str, float] = {}
        self._optimizer.zero_grad()
        batch = next(streams["pages"])
        progress.page_batches += 1
        self._accelerator.backward(self._page_loss(batch, said))
        if progress.reading and progress.step % CARDS_EVERY == 0:
            batch = next(streams["cards"])
            progress.card_batches += 1
            loss, seen = self._card_loss(batch, said)
            self._accelerator.backward(loss)
            if progress.step % TEXT_EVERY == 0:
                self._accelerator.backward(self._text_loss(seen, (batch.pixels.shape[2], batch.pixels.shape[1])))
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self._optimizer.weights, 1.0)
        self._optimizer.step()
        keep = min(AVERAGE, progress.step / (progress.step + 20))
        with torch.no_grad():
            for mean, weight in zip(self._average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(weight, 1 - keep)
        return said

    def _agreed(self, said: dict[str, float]) -> dict[str, float]:
        """The mean of the values of all processes, so that all make the same decisions."""
        if self._accelerator.num_processes == 1:
            return said
        values = torch.tensor(list(said.values()), dtype=torch.float64, device=self._accelerator.device)
        torch.distributed.all_reduce(values)
        return dict(zip(said, (values / self._accelerator.num_processes).tolist(), strict=True))

    def _consider_reading(self, said: dict[str, float]) -> None:
        progress = self.progress
        progress.eye += 0.02 * (said["eye"] - progress.eye)
        if not progress.reading and progress.eye >= READS_FROM:
            progress.reading, progress.reading_since = True, progress.step

    def _share_gradients(self) -> None:
        """Give every process the mean of all processes' gradients: each has seen other cards."""
        if self._accelerator.num_processes == 1:
            return
        given = [weight.grad for weight in self._optimizer.weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in given])
        torch.distributed.all_reduce(flat)
        flat /= self._accelerator.num_processes
        for gradient, mean in zip(given, flat.split([gradient.numel() for gradient in given]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def _page_loss(self, batch: Batch, said: dict[str, float]) -> Tensor:
        with self._accelerator.autocast():
            seen = self._passes.see(torch.from_numpy(batch.pixels))
            loss, said["eye"] = self._questions.ask_letters(seen.tokens, self._tensor(batch.letters))
        said["letters"] = loss.item()
        return loss

    def _card_loss(self, batch: Batch, said: dict[str, float]) -> tuple[Tensor, Seen]:
        if batch.answers is None or batch.printed_in is None:
            raise ValueError("Pages have no answers to learn.")
        size = (batch.pixels.shape[2], batch.pixels.shape[1])
        answers, printed_in = self._tensor(batch.answers), self._tensor(batch.printed_in)
        start = self._passes.picture_starts(size)
        with self._accelerator.autocast():
            seen = self._passes.see(torch.from_numpy(batch.pixels))
            letters, said["card_eye"] = self._questions.ask_letters(seen.tokens, self._tensor(batch.letters))
            fields = self._questions.ask_fields(seen.tokens, self._tensor(batch.fields), self._tensor(batch.places))
            self._guide.expect(
                self._passes.prompt_length(size) - 1, torch.where(printed_in >= 0, printed_in.long() + start, -1)
            )
            logits, _ = self._passes.read(seen, answers.clamp(min=0).long(), size)
            guide = self._guide.loss()
        words = F.cross_entropy(logits.float().flatten(0, 1), answers.flatten().long(), ignore_index=-1)
        asked = printed_in >= 0
        said["words"], said["guide"], said["fields"] = words.item(), guide.item(), fields.item()
        said["read"] = ((logits.detach().argmax(-1) == answers)[asked].sum() / asked.sum().clamp(min=1)).item()
        said["found"] = self._guide.hits[-1]
        return words + GUIDE_WEIGHT * guide + LETTERS_WEIGHT * letters + FIELDS_WEIGHT * fields, seen

    def _text_loss(self, seen: Seen, size: tuple[int, int]) -> Tensor:
        """Of saying what it is when asked for something else: without a picture, and of the first one of ``seen``."""
        ids, wanted = self._text
        rows = torch.randint(len(ids), (8,))
        random = Random(f"asked/{self._seed}/{self.progress.step}")  # noqa: S311
        said = self._so_far.to(self._accelerator.device)
        with self._accelerator.autocast():
            alone = self._passes.say(self._tensor(ids[rows].numpy()))
            one = seen.first(size[0] * size[1] // TOKEN_SIDE**2)
            shown, _ = self._passes.read(one, said[None], size, asked=random.choice(PROMPTS))
        wanted = wanted[rows].to(alone.device)
        loss = F.cross_entropy(alone[:, :-1].float().flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=-1)
        return TEXT_WEIGHT * (loss + F.cross_entropy(shown[0].float(), said))

    def _held_out(self) -> dict[str, list[Batch]]:
        import dataclasses

        plan = dataclasses.replace(self._plan, seed=HELD_OUT_SEED, cards=16, fonts=(), repeats=1)
        return {
            "flat": [card_batch(plan, i, "flat") for i in range(2)],
            "all": [card_batch(plan, i) for i in range(2, 4)],
        }

    def _save_and_score(self, held_out: dict[str, list[Batch]]) -> None:
        if not self._accelerator.is_main_process:
            return
        checkpoint.save(
            self.folder,
            size=self._size_name,
            seed=self._seed,
            progress=self.progress,
            parts={
                "model": self.model,
                "average": self._average,
                "questions": self._questions,
                "optimizer": self._optimizer,
            },
        )
        if self.progress.reading:
            shares: dict[str, float] = {}
            for name, batches in held_out.items():
                with self._accelerator.autocast():
                    found = score(self._average_passes, batches, self._pieces).as_shares()
                shares |= {f"{name}_{key}": value for key, value in found.items()}
            self._log(shares)

    def _log(self, said: dict[str, float]) -> None:
        if not self._accelerator.is_main_process:
            return
        progress, trainers = self.progress, self._accelerator.num_processes
        line = {
            "step": progress.step,
            "seconds": round(progress.seconds, 1),
            "cards": progress.card_batches * self._plan.cards * trainers,
            "pages": progress.page_batches * self._plan.pages * trainers,
            **{name: round(value, 4) for name, value in said.items()},
        }
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._accelerator.device)


def default_precision() -> str:
    """bf16 where the hardware multiplies it, and is much quicker: a GPU, a processor with AMX or AVX-512 BF16."""
    on_processor = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if torch.cuda.is_available() or on_processor else "no"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint and log; a run that is there is continued")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        help="of training in all, over all starts; the rate falls towards the end (default: 60)",
    )
    parser.add_argument("--batch", type=int, default=8, help="cards a step; twice as many pages (default: 8)")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help=f"learning rate (default: {LEARNING_RATE})")
    parser.add_argument("--repeats", type=int, default=1, help="batches of a drawn one (default: 1)")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 4), help="of each feed")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: torch's own choice)")
    parser.add_argument("--fonts", type=Path, action="append", default=[], help="folder with more fonts; repeatable")
    parser.add_argument("--precision", choices=("no", "bf16"), default=default_precision())
    parser.add_argument("--checkpoint-seconds", type=float, default=120)
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    return parser.parse_args(arguments)


def main() -> None:
    trainer = Trainer(parse_options())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, trainer.stop)
    trainer.run()


if __name__ == "__main__":
    main()
