"""A hash of the files of a model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

#: files up to this size are hashed completely, larger ones by samples
_HASH_WHOLE_BYTES = 64 * 2**20
_SAMPLES = 32
_SAMPLE_BYTES = 2**20


def revision_of(folder: Path) -> str:
    """40 hexadecimal digits that change with weights, configuration, tokenizer or processor."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".jinja", ".txt", ".safetensors"}:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            for block in _blocks(path):
                digest.update(block)
    return digest.hexdigest()[:40]


def _blocks(path: Path) -> Iterator[bytes]:
    """The whole file, or evenly spread samples of a large one: hashing gigabytes of weights would slow every start."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASH_WHOLE_BYTES:
            yield file.read()
            return
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            yield file.read(_SAMPLE_BYTES)
