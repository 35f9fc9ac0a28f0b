"""The engine: requests in, deltas out, all of them through one running batch."""

from __future__ import annotations

import collections
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from inference.engine.errors import EngineError, EngineStopped
from inference.engine.generation import Generation
from inference.engine.handle import Handle
from inference.engine.loading import LoadedModel
from inference.engine.model_runner import ModelRunner
from inference.engine.prompts import Prompt, PromptMaker
from inference.engine.sampling import Sampler
from inference.engine.types import GenerationRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A look at the engine at one moment."""

    #: rows of the batch in use, and how many there may be
    running: int
    max_batch_size: int
    #: submitted and not in the batch yet
    waiting: int
    #: since the engine was made
    generated_tokens: int
    decode_steps: int
    #: bytes of keys and values held now
    cache_bytes: int


class Engine:
    """Continuous batching over one model: a request joins the running batch after its prefill and leaves at its end.

    One thread owns the model, the cache and the batch. A forward pass is not made for two threads (the cache holds
    state between its layers, and Qwen3-VL keeps state on the module), and a batch is quicker than threads in turns.
    Another thread turns conversations into tensors meanwhile, so that decoding does not wait for image resizing.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_batch_size: int,
        max_context_tokens: int | None = None,
        torch_threads: int | None = None,
    ) -> None:
        """``max_context_tokens`` narrows the model's own limit of prompt and answer together.

        ``torch_threads`` sets torch's number of threads for the whole process; None leaves it alone.
        """
        if max_batch_size < 1:
            raise ValueError("max_batch_size must be at least 1")
        self._loaded = loaded
        self._max_batch_size = max_batch_size
        self._limit = min(loaded.context_length, max_context_tokens or loaded.context_length)
        self._torch_threads = torch_threads
        self._prompts = PromptMaker(loaded, max_context_tokens=self._limit)
        self._preparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-prepare")
        self._thread = threading.Thread(target=self._run, name="engine-model", daemon=True)

        # Guards the four below, and wakes the model thread.
        self._changed = threading.Condition()
        self._open: set[Handle] = set()
        self._ready: collections.deque[tuple[Generation, Prompt]] = collections.deque()
        self._in_preparation = 0
        self._stopping = False

        # Of the model thread alone; others only read the numbers.
        self._runner = ModelRunner(loaded, max_rows=max_batch_size)
        self._batch: list[Generation] = []
        self._sampler: Sampler | None = None
        self._generated_tokens = 0
        self._decode_steps = 0

    def start(self) -> None:
        """Start the model thread. Requests may be submitted before."""
        self._thread.start()

    def submit(self, request: GenerationRequest) -> Handle:
        """Hand in a request; returns at once. Everything that can go wrong with it is raised by iterating the handle.

        Raises EngineStopped.
        """
        handle = Handle(self._forget, resumed_tokens=len(request.resume_ids))
        with self._changed:
            if self._stopping:
                raise EngineStopped
            self._open.add(handle)
            self._in_preparation += 1
            self._preparing.submit(self._prepare, request, handle)
        return handle

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Take no more requests, end all handles with EngineStopped, and wait for the model thread.

        Returns whether it ended in time. May be called again, and without a start.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self._end_all_handles()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def stats(self) -> EngineStats:
        with self._changed:
            waiting = self._in_preparation + len(self._ready)
        return EngineStats(
            running=len(self._batch),
            max_batch_size=self._max_batch_size,
            waiting=waiting,
            generated_tokens=self._generated_tokens,
            decode_steps=self._decode_steps,
            cache_bytes=self._runner.cache.nbytes,
        )

    # On the preparing thread

    def _prepare(self, request: GenerationRequest, handle: Handle) -> None:
        ready = None
        try:
            if not handle.closed:
                prompt = self._prompts.make(request)
                ready = self._make_generation(request, prompt, handle), prompt
        except EngineError as error:
            handle.finish(error)
        except Exception as error:
            logger.exception("request not prepared", extra={"action": "prepare_failed"})
            handle.finish(_caused_by(error, "The request could not be prepared."))
        with self._changed:
            self._in_preparation -= 1
            if ready is not None and not handle.closed:
                self._ready.append(ready)
                self._changed.notify_all()

    def _make_generation(self, request: GenerationRequest, prompt: Prompt, handle: Handle) -> Generation:
        generation = Generation(
            request,
            prompt,
            handle,
            vocabulary=self._loaded.vocabulary,
            eos_token_ids=self._loaded.eos_token_ids,
            max_context_tokens=self._limit,
        )
        # An earlier attempt may have generated the last token and been lost before it could say so.
        generation.finish_if_ended()
        return generation

    # On any thread

    def _forget(self, handle: Handle) -> None:
        with self._changed:
            self._open.discard(handle)
            if any(generation.handle is handle for generation, _ in self._ready):
                self._ready = collections.deque(item for item in self._ready if item[0].handle is not handle)

    def _end_all_handles(self) -> None:
        with self._changed:
            handles = list(self._open)
        for handle in handles:
            handle.finish(EngineStopped())

    # On the model thread

    def _run(self) -> None:
        if self._torch_threads is not None:
            torch.set_num_threads(self._torch_threads)
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    self._drop_closed_rows()
                    self._admit_one()
                    self._step()
        except Exception:
            logger.exception("model thread failed", extra={"action": "engine_failed"})
        finally:
            with self._changed:
                self._stopping = True
            self._end_all_handles()
            self._batch = []
            self._runner.cache.release()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._stopping or self._batch or self._ready):
                self._changed.wait()
            return not self._stopping

    def _admit_one(self) -> None:
        # One prefill between two decode steps: a burst of arrivals slows the running rows down but does not stop them.
        with self._changed:
            if len(self._batch) >= self._max_batch_size or not self._ready:
                return
            generation, prompt = self._ready.popleft()
        if generation.handle.closed:
            return
        try:
            used_length = max((g.cached for g in self._batch), default=0)
            logits = self._runner.prefill(len(self._batch), prompt, used_length=used_length)
            sampled = self._make_sampler([generation]).sample(logits)
            self._generated_tokens += 1
            generation.accept(sampled.tokens[0], sampled.logprobs[0])
        except Exception as error:
            logger.exception("prefill failed", extra={"action": "prefill_failed"})
            generation.handle.finish(_caused_by(error, "The model failed to read the prompt."))
        if not generation.handle.closed:
            self._batch.append(generation)
            self._sampler = None
        elif not self._batch:
            self._runner.cache.release()

    def _step(self) -> None:
        batch = self._batch
        if not batch:
            return
        try:
            logits = self._runner.decode(
                [g.last_token for g in batch], [g.cached for g in batch], [g.rope_delta for g in batch]
            )
            if self._sampler is None:
                self._sampler = self._make_sampler(batch)
            sampled = self._sampler.sample(logits)
        except Exception as error:
            logger.exception("decode step failed", extra={"action": "decode_failed", "rows": len(batch)})
            self._batch, self._sampler = [], None
            self._runner.cache.release()
            for generation in batch:
                generation.handle.finish(_caused_by(error, "The model failed while it generated."))
            return
        self._decode_steps += 1
        self._generated_tokens += len(batch)
        for generation, token, logprobs in zip(batch, sampled.tokens, sampled.logprobs, strict=True):
            generation.cached += 1
            generation.accept(token, logprobs)
        self._drop_closed_rows()

    def _drop_closed_rows(self) -> None:
        """Take ended and cancelled rows out; the last row moves into the hole, so that rows stay without holes."""
        batch = self._batch
        for row in range(len(batch) - 1, -1, -1):
            if not batch[row].handle.closed:
                continue
            last = batch.pop()
            if row < len(batch):
                self._runner.cache.move(len(batch), row, last.cached)
                batch[row] = last
            self._sampler = None
        if not batch:
            self._runner.cache.release()

    def _make_sampler(self, generations: list[Generation]) -> Sampler:
        return Sampler(
            generations,
            eos_token_ids=self._loaded.eos_token_ids,
            placeholders=self._loaded.vocabulary.placeholders,
            device=self._runner.device,
        )


def _caused_by(error: Exception, message: str) -> EngineError:
    failure = EngineError(message)
    failure.__cause__ = error
    return failure
