"""Decode steps on an NVIDIA GPU, recorded once and replayed: one launch per step instead of a few hundred."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.kv_cache import SlotCache

logger = logging.getLogger(__name__)

#: positions in a bucket; a graph reads its whole bucket, so coarse buckets read too much and fine ones record too often
SPAN_BUCKET = 512
#: replayed logits may differ from the recorded step's by this much, relative to their spread
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    graph: Any
    #: [3, rows], tokens, positions in the cache, offsets of the rotary positions; read again by every replay
    inputs: torch.Tensor
    #: [rows, vocabulary], written by every replay
    logits: torch.Tensor
    #: other tensors that it reads; a graph holds addresses only, so these must live as long as it does
    read: tuple[torch.Tensor, ...]


class GraphedSteps:
    """One graph for each number of rows (powers of two, and the most) and span (``SPAN_BUCKET``).

    Those of the shortest span are recorded at the start, the others when they are first needed. A graph holds the
    addresses of the cache, so all are dropped when the cache is resized. The first replay of each is compared with the
    step that it recorded; if it differs, or cannot be recorded, graphs are no longer used.
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor],
        cache: SlotCache,
        device: torch.device,
    ) -> None:
        self._step = step
        self._device = device
        self._cache = cache
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._layout = -1
        self._pool: Any = None
        # One for all: every stream has a workspace of cuBLAS, which is tens of megabytes.
        self._stream = torch.cuda.Stream(device)
        self.usable = True

    @torch.inference_mode()
    def record_ahead(self) -> None:
        """Record the shortest span for every number of rows that the cache has, so that no answer waits for it.

        No row may be in use.
        """
        most, _ = self._cache.capacity
        sizes = itertools.takewhile(lambda rows: rows < most, (1 << power for power in itertools.count()))
        for rows in (*sizes, most):
            if self.usable:
                self.run([0] * rows, [0] * rows, [0] * rows)

    def run(self, tokens: Sequence[int], lengths: Sequence[int], rope_deltas: Sequence[int]) -> torch.Tensor | None:
        """The logits of a step, [rows, vocabulary], as ``ModelRunner.decode``; None when no graph can be used.

        The next step overwrites them.
        """
        rows, longest = len(tokens), max(lengths)
        self._cache.reserve(rows, longest + 1, rows, longest)
        if self._cache.layout != self._layout:
            self._drop()
            self._layout = self._cache.layout
        room_rows, room_length = self._cache.capacity
        size = (
            min(1 << (rows - 1).bit_length(), room_rows),
            min(-(-(longest + 1) // SPAN_BUCKET) * SPAN_BUCKET, room_length),
        )
        # The rows that pad the bucket are free; what they write at their first position is never read.
        padding = [0] * (size[0] - rows)
        columns = torch.tensor([[*tokens, *padding], [*lengths, *padding], [*rope_deltas, *padding]], pin_memory=True)
        graph = self._graphs.get(size)
        try:
            if graph is None:
                graph = self._graphs[size] = self._record(columns.to(self._device), *size)
            else:
                graph.inputs.copy_(columns, non_blocking=True)
                graph.graph.replay()
        except RuntimeError as error:
            logger.warning("decode steps run without CUDA graphs: %s", error)
            self._drop()
            self.usable = False
            return None
        return graph.logits[:rows]

    def _drop(self) -> None:
        self._graphs.clear()
        # torch frees a pool with the last graph in it, and then refuses to use it again.
        self._pool = None
        # A recording cannot use memory that torch keeps for later allocations.
        torch.cuda.empty_cache()

    def _record(self, inputs: torch.Tensor, rows: int, span: int) -> _Graph:
        ids, places, deltas = inputs
        every_place = torch.arange(span, device=inputs.device)
        step = self._cache.step
        step.rows, step.positions, step.span = torch.arange(rows, device=inputs.device), places, span

        def take() -> torch.Tensor:
            return self._step(ids, places + deltas, every_place > places[:, None])

        here, aside = torch.cuda.current_stream(self._device), self._stream
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                # Libraries initialize themselves in the first calls, which must not be recorded.
                take()
                expected = take().clone()
                # What other threads do with the device meanwhile is not recorded, and does not spoil the recording.
                graph.capture_begin(self._pool, capture_error_mode="thread_local")
                try:
                    logits = take()
                finally:
                    graph.capture_end()
        finally:
            here.wait_stream(aside)
        logits.zero_()  # So that a graph that writes nothing fails the comparison.
        graph.replay()
        difference = ((logits - expected).abs().max() / expected.std()).item()
        if not difference <= _TOLERANCE:
            raise RuntimeError(f"a replayed step differs from the recorded one by {difference:.2g}")
        return _Graph(graph, inputs, logits, (step.rows, every_place))
