"""Inputs that are nearly good: a sample with a few of its bytes changed, by a generator that can be seeded."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

#: few changes leave most of a sample as it was, so that the inner parts of a loader are reached
CHANGES = (1, 1, 1, 2, 2, 3, 5, 8)
MAX_BYTES = 200_000
#: values at which lengths, counts and offsets overflow
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
#: a JSON value after its key
_VALUE = re.compile(rb'(?<=":)\s*(?:"(?:[^"\\]|\\.)*"|[^,}\]\s]+)')


def mutate(rng: random.Random, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of the samples, changed in a few places."""
    data = rng.choice(samples)
    for _ in range(rng.choice(CHANGES)):
        change = rng.choice(_OF_TEXT if tokens else _OF_BYTES)
        data = change(rng, data, samples, tokens)[:MAX_BYTES]
    return data


def shrink(data: bytes, is_same: Callable[[bytes], bool], *, tries: int) -> bytes:
    """A shorter input that ``is_same`` is still true of: pieces are left out while that is so."""
    size = len(data) // 2
    while size and tries:
        at = 0
        while at < len(data) and tries:
            tries -= 1
            shorter = data[:at] + data[at + size :]
            if is_same(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _flip(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at, length = rng.randint(0, len(data)), rng.choice((1, 2, 4, 8, 32))
    return data[:at] + rng.randbytes(length) + data[at + length :]


def _number(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
    at = rng.randint(0, len(data))
    number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
    return data[:at] + number.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


def _leave_out(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 20, 200)) + data[end:]


def _cut(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _splice(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    other = rng.choice(samples)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _insert_token(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(tokens) + data[at:]


def _replace_value(rng: random.Random, data: bytes, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    values = list(_VALUE.finditer(data))
    if not values:
        return _insert_token(rng, data, samples, tokens)
    value = rng.choice(values)
    return data[: value.start()] + rng.choice(tokens) + data[value.end() :]


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 64, 512)))


_OF_BYTES = (_flip, _flip, _overwrite, _number, _number, _leave_out, _repeat, _cut, _splice)
_OF_TEXT = (_flip, _overwrite, _leave_out, _repeat, _cut, _splice, _insert_token, _replace_value, _replace_value)
