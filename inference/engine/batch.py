"""The running batch: its rows, the prompts being prefilled, and the decode step. Used by the model thread only."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence

import torch

from inference.engine.errors import caused_by
from inference.engine.fused_layers import fused_layers
from inference.engine.generation import Generation
from inference.engine.loading import LoadedModel
from inference.engine.media_encoder import MediaEncoder
from inference.engine.memory import KvBudget
from inference.engine.model_runner import ModelRunner
from inference.engine.prefill import Prefiller
from inference.engine.prefill_unit import Prefill
from inference.engine.prefix_cache import PrefixCache, block_digests
from inference.engine.sampling import Sampler
from inference.engine.thread_choice import ThreadChoice

logger = logging.getLogger(__name__)

#: positions reserved beyond a row's tokens when it is admitted, so that it is not preempted again immediately
HEADROOM_TOKENS = 256


class Batch:
    """Rows 0 … n-1 decode, one generation each; other members of the batch are still prefilled, in order of arrival."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_rows: int,
        budget: KvBudget,
        chunk_tokens: int | None,
        media_cache_bytes: int,
        cuda_graphs: bool,
        compile_step: bool,
        threads: ThreadChoice,
    ) -> None:
        self._loaded = loaded
        self._threads = threads
        self._max_rows = max_rows
        fused = fused_layers(loaded.model)
        self._runner = ModelRunner(
            loaded,
            fused,
            max_rows=max_rows,
            max_tokens=budget.running_tokens,
            cuda_graphs=cuda_graphs,
            compile_step=compile_step,
        )
        self._prefixes = PrefixCache(max_tokens=budget.prefix_tokens)
        self._encoder = MediaEncoder(loaded.model, max_bytes=media_cache_bytes)
        self._prefiller = Prefiller(
            loaded, fused, prefixes=self._prefixes, encoder=self._encoder, chunk_tokens=chunk_tokens
        )
        self._rows: list[Generation] = []
        self._reading: list[tuple[Generation, Prefill]] = []
        #: A unit of several prompts has failed. The first one is prefilled alone next, and fails if it fails alone.
        self._one_at_a_time = False
        self._sampler: Sampler | None = None
        #: preempted when the memory was full; admitted again before all waiting ones
        self.returned: collections.deque[Generation] = collections.deque()
        # Counted since the batch was made.
        self.generated_tokens = 0
        self.decode_steps = 0
        self.prompt_tokens = 0
        self.reused_tokens = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._rows) + len(self._reading)

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values of the running rows."""
        return self._runner.cache.nbytes

    @property
    def running_tokens(self) -> int:
        """Rows times the length of the longest, which is what the memory limits."""
        return len(self._rows) * max((generation.cached for generation in self._rows), default=0)

    @property
    def kept_bytes(self) -> int:
        """Bytes kept for later requests: cached prefixes and media."""
        return self._prefixes.nbytes + self._encoder.nbytes

    @property
    def media_hits(self) -> int:
        """Images and frames whose encoding was cached."""
        return self._encoder.hits

    def has_room_for(self, generation: Generation) -> bool:
        """Whether one more row of its length fits beside the others. The first row always fits."""
        members = [*self._rows, *(reading for reading, _ in self._reading), generation]
        length = max(min(g.tokens_held + HEADROOM_TOKENS, g.max_tokens_held) for g in members)
        return len(members) == 1 or self._runner.cache.fits(len(members), length)

    def admit(self, generation: Generation) -> None:
        """Add it to the batch; the next units of ``prefill`` process its prompt."""
        try:
            prefill = self._prefiller.begin(generation.whole_prompt())
        except Exception as error:
            logger.exception("request not admitted")
            generation.handle.finish(caused_by(error, "The model failed to read the prompt."))
            return
        self.prompt_tokens += len(prefill.prompt.ids)
        self.reused_tokens += prefill.reused_tokens
        generation.note_reuse(prefill.reused_tokens)
        self._reading.append((generation, prefill))

    def prefill(self) -> None:
        """Prefill one unit of the waiting prompts; prompts that are completely prefilled get their first token."""
        if not self._reading:
            return
        queue = [prefill for _, prefill in self._reading][: 1 if self._one_at_a_time else None]
        try:
            self._threads.use_all()
            done = self._prefiller.work(queue)
            if not done:
                return
            read = [generation for generation, _ in self._reading[: len(done)]]
            sampled = self._make_sampler(read).sample(torch.cat([prefilled.logits for prefilled in done]))
        except Exception as error:
            logger.exception("prefill failed")
            self._one_at_a_time = len(queue) > 1
            if not self._one_at_a_time:
                failed, _ = self._reading.pop(0)
                failed.handle.finish(caused_by(error, "The model failed to read the prompt."))
            return
        self._one_at_a_time = False
        del self._reading[: len(done)]
        self.generated_tokens += len(read)
        for generation, prefilled, token, logprobs in zip(read, done, sampled.tokens, sampled.logprobs, strict=True):
            self._keep_prefix(generation, prefilled.states)
            generation.accept(token, logprobs)
            if generation.handle.closed:
                continue
            try:
                self._join(generation, prefilled.states)
            except Exception as error:
                logger.exception("no room for a row")
                generation.handle.finish(caused_by(error, "The model failed to read the prompt."))
                # Some layers of the cache may have been resized and others not.
                self._fail_rows(error)

    def decode(self) -> None:
        """Generate one token for every row."""
        if not self._rows:
            return
        self._make_room()
        rows = self._rows
        try:
            if self._sampler is None:
                self._sampler = self._make_sampler(rows)
            with self._threads.step(len(rows)):
                logits = self._runner.decode(
                    [g.last_token for g in rows], [g.cached for g in rows], [g.rope_delta for g in rows]
                )
                sampled = self._sampler.sample(logits)
        except Exception as error:
            logger.exception("decode step failed")
            self._fail_rows(error)
            return
        self.decode_steps += 1
        self.generated_tokens += len(rows)
        for generation, token, logprobs in zip(rows, sampled.tokens, sampled.logprobs, strict=True):
            generation.cached += 1
            generation.accept(token, logprobs)
        self.drop_closed()

    def drop_closed(self) -> None:
        """Remove ended and cancelled generations."""
        if any(generation.handle.closed for generation, _ in self._reading):
            self._reading = [(g, prefill) for g, prefill in self._reading if not g.handle.closed]
        for row in range(len(self._rows) - 1, -1, -1):
            if self._rows[row].handle.closed:
                self._remove(row)
        if not self._rows:
            self._runner.cache.release()

    def release(self) -> None:
        """Drop all rows and caches. The handles are not closed here."""
        self._rows, self._reading, self._sampler = [], [], None
        self.returned.clear()
        self._runner.cache.release()
        self._prefixes.clear()
        self._encoder.clear()

    def _keep_prefix(self, generation: Generation, states: list[torch.Tensor]) -> None:
        keys = generation.keys()[: states[0].shape[2]]
        self._store(block_digests(keys), [layer[0] for layer in states])

    def _store(self, digests: list[bytes], states: list[torch.Tensor]) -> None:
        try:
            self._prefixes.store(digests, states)
        except RuntimeError:
            # No answer depends on it: storing failed for lack of memory.
            logger.exception("prefix not cached")
            self._prefixes.clear()

    def _fail_rows(self, error: Exception) -> None:
        rows, self._rows, self._sampler = self._rows, [], None
        self._runner.cache.release(whole=True)
        for generation in rows:
            generation.handle.finish(caused_by(error, "The model failed while it generated."))

    def _join(self, generation: Generation, states: list[torch.Tensor]) -> None:
        tokens = states[0].shape[2]
        if not self._make_room(joining=generation, length=tokens):
            self.returned.appendleft(generation)
            self.evictions += 1
            return
        self._runner.cache.insert(len(self._rows), states, max((g.cached for g in self._rows), default=0))
        generation.cached = tokens
        self._rows.append(generation)
        self._sampler = None

    def _make_room(self, *, joining: Generation | None = None, length: int = 0) -> bool:
        """Make sure that every row can grow by one position, and that ``joining`` of ``length`` fits too, if given.

        The newest row is preempted first: it waits at the head of the queue, and its tokens are prefilled again.
        Returns False when the newest is ``joining``.
        """
        while self._rows:
            needed = max(length, *(generation.cached for generation in self._rows)) + 1
            if self._runner.cache.fits(len(self._rows) + (joining is not None), needed):
                return True
            row = max(range(len(self._rows)), key=lambda number: self._rows[number].arrival)
            if joining is not None and joining.arrival > self._rows[row].arrival:
                return False
            self.returned.appendleft(self._rows[row])
            self._remove(row)
            self.evictions += 1
        return True

    def _remove(self, row: int) -> None:
        """Store the row's blocks in the prefix cache, and move the last row into the gap."""
        leaving, cache = self._rows[row], self._runner.cache
        digests = block_digests(leaving.keys()[: leaving.cached])
        self._store(digests, cache.row(row, 0, leaving.cached))
        last = self._rows.pop()
        if row < len(self._rows):
            cache.move(len(self._rows), row, last.cached)
            self._rows[row] = last
        self._sampler = None

    def _make_sampler(self, generations: Sequence[Generation]) -> Sampler:
        return Sampler(
            generations,
            eos_token_ids=self._loaded.eos_token_ids,
            placeholders=self._loaded.vocabulary.placeholders,
            device=self._runner.device,
        )
