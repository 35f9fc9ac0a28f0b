"""The keys and values of all decoding rows, in one tensor per layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(slots=True)
class Step:
    """Where the running decode step writes and what it reads; one object for all layers."""

    #: [rows], each row's number and the position at which it writes
    rows: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    positions: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    #: number of positions of each row that the step reads
    span: int = 0
    #: rows that attend alone, with the number of positions that each reads; the others read ``span``
    alone: list[tuple[int, int]] = field(default_factory=list)


#: positions that a steady cache has at least, if they fit
_STEADY_LENGTH = 2048
#: rows that it adds together near its limit
_STEADY_ROWS = 8


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values: ``states`` is [row capacity, 2 x heads, length capacity, head size].

    Keys and values share a tensor, keys first, so that a step writes both at once.
    """

    is_sliding = False

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.states = torch.empty(0)
        self._step = step

    def resize(self, like: torch.Tensor, rows: int, length: int, used_rows: int, used_length: int) -> None:
        """Make room for ``rows`` of ``length`` positions, and keep the contents of the used part.

        ``like`` is [1, 2 x heads, …, head size], on the layer's device and in its dtype.
        """
        old = self.states
        # Zeros and not empty memory: a masked position still takes part in the arithmetic, and 0 times NaN is NaN.
        self.states = like.new_zeros(rows, like.shape[1], length, like.shape[3])
        if old.numel():
            self.states[:used_rows, :, :used_length] = old[:used_rows, :, :used_length]

    def read(self, rows: int, span: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first ``rows``, [rows, heads, span, head size] each; views, nothing is copied."""
        keys, values = self.states[:rows, :, :span].chunk(2, dim=1)
        return keys, values

    def read_row(self, row: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one row, [1, heads, length, head size] each; views."""
        keys, values = self.states[row : row + 1, :, :length].chunk(2, dim=1)
        return keys, values

    # Called by a model of Transformers in a decode step.

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        step, device = self._step, self.states.device
        written = torch.cat((key_states, value_states), dim=1)[:, :, 0]
        self.states[step.rows.to(device), :, step.positions.to(device)] = written
        return self.read(len(step.rows), step.span)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("rows are inserted before they are decoded")

    # Transformers calls these only when a step passes no mask; the engine always passes one.

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class SlotCache:
    """Rows 0 … n-1 are in use, without gaps, so that a decode step reads one slice and nothing is gathered.

    Every row is allocated the length of the longest. Capacity grows and shrinks with use, in steps: it doubles in rows,
    grows by about an eighth in length, and shrinks when a quarter would be enough. It never exceeds ``max_tokens``,
    rows times length.
    """

    def __init__(self, layers: int, *, max_rows: int, max_tokens: int, steady: bool = False) -> None:
        """``steady`` is for CUDA graphs, which hold addresses: all rows are allocated at the start, the length doubles
        when it is too short, and the memory is kept.
        """
        self.step = Step()
        self.layers = [SlotLayer(self.step) for _ in range(layers)]
        self.max_tokens = max_tokens
        self._max_rows = max_rows
        self._steady = steady
        #: changes with the addresses of the layers
        self.layout = 0
        self._rows = 0
        self._length = 0
        #: passed to the model as ``past_key_values``
        self.past_key_values = Cache(layers=list(self.layers))

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(layer.states.nbytes for layer in self.layers)

    @property
    def capacity(self) -> tuple[int, int]:
        """(rows, positions of each) that fit without new memory."""
        return self._rows, self._length

    def fits(self, rows: int, length: int) -> bool:
        """Whether ``rows`` of ``length`` positions are within the limits of this cache."""
        return rows <= self._max_rows and rows * length <= self.max_tokens

    def insert(self, row: int, states: list[torch.Tensor], used_length: int) -> None:
        """Fill ``row``, the first free one, with the layers' ``states``, [1, 2 x heads, tokens, head size] each.

        ``used_length`` is the length of the longest row in use.
        """
        tokens = states[0].shape[2]
        # One more, so that the first decode step need not resize the cache.
        self.reserve(row + 1, max(tokens + 1, used_length), row, used_length, states)
        for layer, new in zip(self.layers, states, strict=True):
            layer.states[row, :, :tokens] = new[0]

    def enter_step(
        self, rows: int, positions: torch.Tensor, longest: int, alone: Sequence[tuple[int, int]] = (), span: int = 0
    ) -> None:
        """Prepare a forward pass that adds one position to each of the first ``rows``, at ``positions``, [rows].

        ``longest`` is the greatest of ``positions``. ``alone`` are rows that attend alone, each with the number of
        positions that it reads; the others then read ``span``.
        """
        self.reserve(rows, longest + 1, rows, longest)
        if len(self.step.rows) != rows or self.step.rows.device != positions.device:
            self.step.rows = torch.arange(rows, device=positions.device)
        self.step.positions, self.step.span, self.step.alone = positions, span or longest + 1, list(alone)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another, to fill the gap left by a removed row."""
        for layer in self.layers:
            layer.states[target, :, :length] = layer.states[source, :, :length]

    def row(self, row: int, start: int, end: int) -> list[torch.Tensor]:
        """Positions ``start`` to ``end`` of a row, [2 x heads, end - start, head size] per layer; views."""
        return [layer.states[row, :, start:end] for layer in self.layers]

    def release(self, *, whole: bool = False) -> None:
        """Free the memory; a steady cache does so only if ``whole``. No row may be in use."""
        if self._steady and not whole:
            return
        self.layout += 1
        self._rows = self._length = 0
        for layer in self.layers:
            layer.states = torch.empty(0)

    def reserve(
        self, rows: int, length: int, used_rows: int, used_length: int, like: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Ensure capacity for ``rows`` of ``length`` positions; the used part is kept.

        ``like`` gives the shape, device and dtype of the layers, needed while nothing has been inserted.
        """
        choose = self._steady_capacity if self._steady else self._moving_capacity
        capacity = choose(rows, length)
        if capacity == self.capacity:
            return
        self._rows, self._length = capacity
        self.layout += 1
        for layer, template in zip(self.layers, like or [layer.states for layer in self.layers], strict=True):
            layer.resize(template, *capacity, used_rows, used_length)

    def _moving_capacity(self, rows: int, length: int) -> tuple[int, int]:
        """Rows and length to have when ``rows`` of ``length`` positions are needed."""
        fit_rows, fit_length = _row_bucket(rows, self._max_rows), _length_bucket(length)
        too_small = rows > self._rows or length > self._length
        too_large = 4 * fit_rows * fit_length <= self._rows * self._length
        if not (too_small or too_large):
            return self.capacity
        if not too_large:
            fit_rows, fit_length = max(fit_rows, self._rows), max(fit_length, self._length)
        # Near the limit nothing is allocated in advance: first the rows, then the length shrink to what is needed.
        if fit_rows * fit_length > self.max_tokens:
            fit_rows = min(fit_rows, max(rows, self.max_tokens // fit_length))
        if fit_rows * fit_length > self.max_tokens:
            fit_length = max(length, self.max_tokens // fit_rows)
        return fit_rows, fit_length

    def _steady_capacity(self, rows: int, length: int) -> tuple[int, int]:
        """As ``_moving_capacity``, with as few changes as possible: all rows, and twice the length, if they fit."""
        if rows <= self._rows and length <= self._length:
            return self.capacity
        fit_rows = self._max_rows
        while fit_rows * length > self.max_tokens:
            fit_rows //= 2
        if fit_rows < rows:
            fit_rows = min(-(-rows // _STEADY_ROWS) * _STEADY_ROWS, self._max_rows)
            if fit_rows * length > self.max_tokens:
                # If rows join, leave room for more rows; if they grow, for more positions.
                fit_rows = max(rows, self.max_tokens // length) if rows > self._rows else rows
        fit_length = max(_STEADY_LENGTH, 1 << (length - 1).bit_length())
        return fit_rows, max(length, min(fit_length, self.max_tokens // fit_rows))


def _row_bucket(rows: int, most: int) -> int:
    return min(1 << max(rows - 1, 0).bit_length(), most)


def _length_bucket(length: int) -> int:
    step = max(256, 1 << max(length.bit_length() - 3, 0))
    return -(-length // step) * step
