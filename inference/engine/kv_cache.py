"""The keys and values of all running rows, in one tensor a layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(slots=True)
class _Access:
    """Which part of the cache the running forward pass reads and writes; one object for all layers."""

    #: the row being prefilled, None while decoding
    prefill_row: int | None = None
    #: [rows], the rows being decoded and the position at which each writes
    rows: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    positions: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    #: positions that a decode step reads, of every row
    span: int = 0


class _Layer(CacheLayerMixin):
    """One layer's keys and values, [row capacity, heads, length capacity, head size]."""

    is_sliding = False

    def __init__(self, access: _Access) -> None:
        super().__init__()
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self._access = access
        self._capacity = (0, 0)

    def resize(self, rows: int, length: int, used_rows: int, used_length: int) -> None:
        """Make room for ``rows`` of ``length`` positions, and keep what is in the used part."""
        self._capacity = (rows, length)
        used = (slice(used_rows), slice(None), slice(used_length))
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old is not None:
                new = self._room_for(old)
                new[used] = old[used]
                setattr(self, name, new)

    def release(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False
        self._capacity = (0, 0)

    def _room_for(self, states: torch.Tensor) -> torch.Tensor:
        rows, length = self._capacity
        # Zeros and not empty memory: a masked position still takes part in the arithmetic, and 0 times NaN is NaN.
        return states.new_zeros(rows, states.shape[1], length, states.shape[3])

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = self._room_for(key_states), self._room_for(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None or self.values is None:
            # On the device and in the dtype that the layer computes in, which only it knows.
            self.keys, self.values = self._room_for(key_states), self._room_for(value_states)
            self.is_initialized = True
        keys, values, access = self.keys, self.values, self._access
        if access.prefill_row is not None:
            keys[access.prefill_row, :, : key_states.shape[2]] = key_states[0]
            values[access.prefill_row, :, : key_states.shape[2]] = value_states[0]
            return key_states, value_states
        at = access.rows.to(keys.device), slice(None), access.positions.to(keys.device)
        keys[at] = key_states[:, :, 0]
        values[at] = value_states[:, :, 0]
        rows = len(access.rows)
        return keys[:rows, :, : access.span], values[:rows, :, : access.span]

    # The next three are asked for by the mask of a prefill, which starts from nothing; decoding brings its own mask.

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class SlotCache:
    """Rows 0 … n-1 are in use, without holes, so that a decode step reads one slice and nothing is gathered.

    Capacity follows use in buckets, both ways: it doubles in rows and grows by about an eighth in length, and shrinks
    when a quarter would do.
    """

    def __init__(self, layers: int, *, max_rows: int) -> None:
        self._access = _Access()
        self._layers = [_Layer(self._access) for _ in range(layers)]
        self._max_rows = max_rows
        self._rows = 0
        self._length = 0
        #: what the model is given as ``past_key_values``
        self.past_key_values = Cache(layers=list(self._layers))

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        tensors = (t for layer in self._layers for t in (layer.keys, layer.values) if t is not None)
        return sum(t.nbytes for t in tensors)

    def reserve(self, *, rows: int, length: int, used_rows: int, used_length: int) -> None:
        """See that ``rows`` of ``length`` positions fit; the first ``used_rows`` keep their first ``used_length``."""
        fit_rows, fit_length = _row_bucket(rows, self._max_rows), _length_bucket(length)
        too_small = rows > self._rows or length > self._length
        too_large = 4 * fit_rows * fit_length <= self._rows * self._length
        if not (too_small or too_large):
            return
        if not too_large:
            fit_rows, fit_length = max(fit_rows, self._rows), max(fit_length, self._length)
        self._rows, self._length = fit_rows, fit_length
        for layer in self._layers:
            layer.resize(fit_rows, fit_length, used_rows, used_length)

    def enter_prefill(self, row: int) -> None:
        """The next forward pass fills ``row`` from its beginning."""
        self._access.prefill_row = row

    def enter_decode(self, rows: torch.Tensor, positions: torch.Tensor, span: int) -> None:
        """The next forward pass adds one position to each of ``rows`` and reads the first ``span`` positions."""
        self._access.prefill_row = None
        self._access.rows, self._access.positions, self._access.span = rows, positions, span

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another, to close the hole that one leaves."""
        for layer in self._layers:
            for tensor in (layer.keys, layer.values):
                if tensor is not None:
                    tensor[target, :, :length] = tensor[source, :, :length]

    def release(self) -> None:
        """Give the memory back; nothing is in use."""
        self._rows = self._length = 0
        for layer in self._layers:
            layer.release()


def _row_bucket(rows: int, most: int) -> int:
    return min(1 << max(rows - 1, 0).bit_length(), most)


def _length_bucket(length: int) -> int:
    step = max(256, 1 << max(length.bit_length() - 3, 0))
    return -(-length // step) * step
