"""Send the pictures to a reader, several at a time, and yield the results as they arrive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence

from ocr.evaluation.labelled import LabelledPicture
from ocr.evaluation.readers import Reader
from ocr.evaluation.results import Result


def ask_all(reader: Reader, specimens: Sequence[LabelledPicture], *, concurrency: int) -> Generator[Result, None, None]:
    """One result for each specimen, in the order in which they arrive. Raises ``ReaderUnusable``, ``OSError``.

    Closing the iterator sends no more pictures, and does not wait for those that are being read.
    """
    waiting: queue.SimpleQueue[LabelledPicture] = queue.SimpleQueue()
    done: queue.SimpleQueue[Result | Exception] = queue.SimpleQueue()
    closed = threading.Event()
    for specimen in specimens:
        waiting.put(specimen)

    def work() -> None:
        while not closed.is_set():
            try:
                specimen = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(Result(specimen, reader.read(specimen.path.read_bytes(), specimen.path.name)))
            except Exception as exc:
                done.put(exc)

    # Daemon threads, not a pool: a pool waits for its threads, so a Ctrl-C would take as long as reading a card.
    for _ in range(min(concurrency, len(specimens))):
        threading.Thread(target=work, name="evaluation", daemon=True).start()
    try:
        for _ in specimens:
            item = done.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        closed.set()
