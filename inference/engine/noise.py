"""The random numbers of a draw: a function of (seed, position in the answer, token id), without further state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch

_64_BITS = 1 << 64


def _signed(word: int) -> int:
    """A 64-bit word as the int64 with the same bits: torch has no arithmetic for uint64, and int64 wraps."""
    word %= _64_BITS
    return word - _64_BITS if word >= _64_BITS >> 1 else word


# SplitMix64: its output function, and 2**64 divided by the golden ratio as the step from id to id. G. L. Steele, D. Lea
# and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; S. Vigna, splitmix64.c, 2015.
_TOKEN_STEP = 0x9E3779B97F4A7C15
_FIRST_FACTOR = _signed(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = _signed(0x94D049BB133111EB)
# Step from position to position in the answer: odd, without a pattern in its bits, no small multiple of _TOKEN_STEP.
_PLACE_STEP = 0xD1342543DE82EF95
#: numbers computed ahead for small vocabularies, several positions at once, because the calls dominate
_AHEAD = 8192
#: numbers computed at once on a CPU, so that the intermediate results stay in its cache
_AT_ONCE_ON_CPU = 1 << 18


class Noise:
    """Logarithms of numbers uniform in (0, 1), for the rows of a batch, position after position."""

    def __init__(self, seeds: Sequence[int], places: Sequence[int], *, device: torch.device) -> None:
        """``places`` are the positions in the answers of the tokens that the rows draw first."""
        starts = [_signed(_start(seed) + place * _PLACE_STEP) for seed, place in zip(seeds, places, strict=True)]
        #: [rows, 1]
        self._states = torch.tensor(starts, dtype=torch.long, device=device).unsqueeze(1)
        self._offsets = torch.empty(0, dtype=torch.long, device=device)
        self._ahead: list[torch.Tensor] = []

    def next(self, vocabulary_size: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """The numbers of the next position, in parts of (rows, their numbers). The iterator must be exhausted.

        [rows, vocabulary], float64, all below 0. Equal on all devices except for the rounding of the logarithm. The
        number of a token id does not depend on how many ids there are, nor that of a row on the other rows.
        """
        if len(self._offsets) != vocabulary_size:
            ids = torch.arange(1, vocabulary_size + 1, device=self._states.device)
            self._offsets = ids.mul_(_signed(_TOKEN_STEP))
        rows = len(self._states)
        if rows * vocabulary_size <= _AHEAD:
            if not self._ahead:
                self._ahead = self._compute_ahead(_AHEAD // (rows * vocabulary_size))
            yield slice(None), self._ahead.pop()
            return
        step = max(1, _AT_ONCE_ON_CPU // vocabulary_size) if self._states.device.type == "cpu" else rows
        for start in range(0, rows, step):
            part = slice(start, start + step)
            yield part, self._numbers(self._states[part])
        self._states = self._states + _signed(_PLACE_STEP)

    def _compute_ahead(self, places: int) -> list[torch.Tensor]:
        states = torch.stack([self._states + _signed(place * _PLACE_STEP) for place in range(places)])
        self._states = self._states + _signed(places * _PLACE_STEP)
        return list(self._numbers(states).unbind(0))[::-1]

    def _numbers(self, states: torch.Tensor) -> torch.Tensor:
        # 52 bits, so that the midpoint between two values is still a float64: neither 0 nor 1 occurs.
        bits = _mixed(states + self._offsets) >> 12
        return bits.double().mul_(2.0**-52).add_(0.5 + 2.0**-53).log_()


def _start(seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "big")


def _mixed(words: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output function, in place."""
    _xor_shift(words, 30).mul_(_FIRST_FACTOR)
    _xor_shift(words, 27).mul_(_SECOND_FACTOR)
    return _xor_shift(words, 31)


def _xor_shift(words: torch.Tensor, count: int) -> torch.Tensor:
    # A right shift of an int64 copies the sign bit, but the words are unsigned: the mask clears these bits.
    return words.bitwise_xor_((words >> count).bitwise_and_((1 << 64 - count) - 1))
