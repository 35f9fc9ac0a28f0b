"""The contestants that run in this process: the engine, one static batch, and ``generate`` in a thread a request."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from benchmarks.engine.questions import conversation
from benchmarks.engine.runs import Run
from inference.engine.engine import Engine
from inference.engine.handle import Handle
from inference.engine.loading import LoadedModel
from inference.engine.types import Constraint, Delta, GenerationRequest


class EngineContestant:
    """Ours. One thread reads the answers, so that what is measured is the engine.

    ``thread_a_reader`` reads each answer in a thread of its own instead, as a worker does: what handing over costs.
    ``constraint`` holds every answer to it: what masks cost.
    """

    batches = True
    takes_arrivals = True

    def __init__(
        self, engine: Engine, *, thread_a_reader: bool = False, constraint: Constraint | None = None, name: str = ""
    ) -> None:
        self.name = name or ("engine, a thread a reader" if thread_a_reader else "engine")
        self._engine = engine
        self._constraint = constraint
        self._thread_a_reader = thread_a_reader

    def run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float]) -> Run:
        before = self._engine.stats().generated_tokens
        readers: list[_Reader] = []
        started = time.perf_counter()
        for request, arrival in zip(requests, arrivals, strict=True):
            if self._constraint is not None:
                request = dataclasses.replace(request, constraint=self._constraint)
            time.sleep(max(0.0, started + arrival - time.perf_counter()))
            readers.append(_Reader(self._engine, request, to_its_end=self._thread_a_reader))
        for reader in readers:
            reader.read_on()
        ended = max(reader.ended for reader in readers)
        tokens = self._engine.stats().generated_tokens - before
        if tokens != sum(request.sampling.max_tokens for request in requests):
            raise RuntimeError(f"the engine generated {tokens} tokens, which is not what was asked for")
        # Between the last first token and the first end: all rows run, none is prefilled.
        began, began_with = max(reader.first for reader in readers)
        first_end, ended_with = min((reader.ended, reader.ended_with) for reader in readers)
        together = first_end - began
        return Run(
            tokens=tokens,
            seconds=ended - started,
            first_token_seconds=tuple(reader.first[0] - reader.asked for reader in readers),
            prefilled_rate=(ended_with - began_with) / together if together > 0 and ended_with > began_with else None,
        )


class _Reader:
    """Notes when an answer begins and ends, and how many tokens the engine had made by then, of all requests."""

    def __init__(self, engine: Engine, request: GenerationRequest, *, to_its_end: bool) -> None:
        self.first = (0.0, 0)
        self.ended = 0.0
        self.ended_with = 0
        self._engine = engine
        self._error: BaseException | None = None
        self.asked = time.perf_counter()
        self._handle: Handle = engine.submit(request)
        self._thread = threading.Thread(target=self._read, args=[to_its_end])
        self._thread.start()

    def _read(self, to_its_end: bool) -> None:
        try:
            if isinstance(next(self._handle), Delta):
                self.first = (time.perf_counter(), self._engine.stats().generated_tokens)
            if to_its_end:
                self._drain()
        except Exception as error:
            self._error = error

    def read_on(self) -> None:
        """Until the end. Raises what the engine raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if not self.ended:
            self._drain()

    def _drain(self) -> None:
        for _ in self._handle:
            pass
        self.ended, self.ended_with = time.perf_counter(), self._engine.stats().generated_tokens


class _FirstToken(BaseStreamer):
    """Called by ``generate`` with the prompt and then with the tokens of each step."""

    def __init__(self) -> None:
        self.at = 0.0
        self._steps = -1

    def put(self, value: torch.Tensor) -> None:
        self._steps += 1
        if self._steps == 1:
            self.at = time.perf_counter()

    def end(self) -> None: ...


class _Generate:
    """``model.generate`` for conversations: processor, left padding, greedy, no end before all tokens."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        # The tokenizer refuses to be used by two threads at once.
        self._lock = threading.Lock()

    def __call__(self, requests: Sequence[GenerationRequest]) -> float:
        """When the first tokens were there."""
        tokens = requests[0].sampling.max_tokens
        with self._lock:
            inputs: dict[str, Any] = self._loaded.processor.apply_chat_template(
                [conversation(request) for request in requests],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"text_kwargs": {"padding": True, "padding_side": "left"}},
            ).to(self._loaded.device)
        first = _FirstToken()
        with torch.inference_mode():
            output = self._loaded.model.generate(
                **inputs,
                streamer=first,
                max_new_tokens=tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                # None would be taken from the model's own configuration; no token has this id.
                eos_token_id=-1,
                pad_token_id=0,
            )
            output.cpu()
        if output.shape[1] - inputs["input_ids"].shape[1] != tokens:
            raise RuntimeError("generate ended early")
        return first.at


class StaticBatch:
    """One ``generate`` over all requests: they begin together and end together. Alone it is plain ``generate``."""

    name = "static batch"
    batches = True
    takes_arrivals = False

    def __init__(self, loaded: LoadedModel, *, thread_choices: Sequence[int]) -> None:
        self._generate = _Generate(loaded)
        self.threads = ThreadChoice(thread_choices)

    def run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float]) -> Run:
        return self.threads.best(len(requests), self._run, requests)

    def _run(self, requests: Sequence[GenerationRequest], threads: int) -> Run:
        torch.set_num_threads(threads)
        started = time.perf_counter()
        first = self._generate(requests)
        ended = time.perf_counter()
        tokens = sum(request.sampling.max_tokens for request in requests)
        return Run(
            tokens=tokens,
            seconds=ended - started,
            first_token_seconds=(first - started,) * len(requests),
            prefilled_rate=(tokens - len(requests)) / (ended - first),
        )


class GenerateAThread:
    """``generate`` for each request in a thread of its own, all over one model."""

    name = "generate a thread"
    batches = False
    takes_arrivals = True

    def __init__(self, loaded: LoadedModel, *, thread_choices: Sequence[int]) -> None:
        self._generate = _Generate(loaded)
        self.threads = ThreadChoice(thread_choices)

    def run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float]) -> Run:
        return self.threads.best(len(requests), self._run, requests, arrivals)

    def _run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float], threads: int) -> Run:
        firsts = [0.0] * len(requests)
        errors: list[BaseException] = []

        def one(row: int) -> None:
            try:
                torch.set_num_threads(threads)
                time.sleep(arrivals[row])
                asked = time.perf_counter()
                firsts[row] = self._generate([requests[row]]) - asked
            except Exception as error:
                errors.append(error)

        runners = [threading.Thread(target=one, args=[row]) for row in range(len(requests))]
        started = time.perf_counter()
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        ended = time.perf_counter()
        if errors:
            raise errors[0]
        tokens = sum(request.sampling.max_tokens for request in requests)
        return Run(tokens=tokens, seconds=ended - started, first_token_seconds=tuple(firsts))


class ThreadChoice:
    """Lets a baseline run with each number of torch threads, and counts the faster run of each round.

    A number with which it is less than half as fast is tried no more at that kind of run: two threads that wait for
    each other in a busy loop become very slow when another process uses their cores.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = list(dict.fromkeys(choices))
        self._dropped: set[tuple[object, int]] = set()
        #: how often each number was the faster
        self.won: collections.Counter[int] = collections.Counter()

    def best(self, kind: object, run: Callable[..., Run], *arguments: object) -> Run:
        tried = {threads: run(*arguments, threads) for threads in self._choices if (kind, threads) not in self._dropped}
        winner = max(tried, key=lambda threads: tried[threads].rate)
        self._dropped |= {(kind, threads) for threads in tried if 2 * tried[threads].rate < tried[winner].rate}
        self.won[winner] += 1
        return tried[winner]
