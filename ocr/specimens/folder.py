"""A folder of specimens: JPEG files and ``labels.jsonl``, one JSON object a line, in the order of their indices."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ocr.specimens.specimen import DEFAULT_WIDTH, make_specimen

LABELS = "labels.jsonl"
#: JPEG quality; high, so that compression adds no damage to that of the condition
JPEG_QUALITY = 95
#: specimens per task of a process
_CHUNK = 8


def write_specimens(
    folder: Path,
    *,
    count: int,
    seed: int,
    conditions: Sequence[str] = (),
    width: int = DEFAULT_WIDTH,
    processes: int = 1,
) -> Iterator[int]:
    """Write specimens 1 to ``count`` of ``seed`` into ``folder``, and yield the number written after each.

    ``conditions`` take turns; without any, each specimen draws its own. The bytes do not depend on ``processes``. The
    labels are written last, so a folder with labels is complete. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LABELS).unlink(missing_ok=True)
    jobs = [
        (str(folder), seed, index, conditions[index % len(conditions)] if conditions else None, width)
        for index in range(1, count + 1)
    ]
    labels: list[dict[str, Any]] = []
    if processes == 1:
        for label in map(_write_one, jobs):
            labels.append(label)
            yield len(labels)
    else:
        # Not fork: the copy would have the locks of this process, but not the threads that release them.
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            for label in pool.map(_write_one, jobs, chunksize=_CHUNK):
                labels.append(label)
                yield len(labels)
    text = "".join(json.dumps(label, ensure_ascii=False) + "\n" for label in labels)
    (folder / LABELS).write_text(text, encoding="utf-8")


def _write_one(job: tuple[str, int, int, str | None, int]) -> dict[str, Any]:
    folder, seed, index, condition, width = job
    specimen = make_specimen(seed, index, condition, width=width)
    name = f"{index:06d}.jpg"
    specimen.image.save(Path(folder) / name, "JPEG", quality=JPEG_QUALITY)
    return {
        "file": name,
        "seed": seed,
        "index": index,
        "condition": specimen.condition,
        "kind": specimen.kind,
        "fields": specimen.fields,
        "hidden": list(specimen.hidden),
    }
