"""``manage.py evaluate_ktp``: how well a model reads a folder of labelled cards."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from ocr.evaluation.asking import ask_all
from ocr.evaluation.labelled import BrokenFolder, LabelledPicture, read_folder
from ocr.evaluation.plot import PlotImpossible, check_plot, write_plot
from ocr.evaluation.readers import EngineReader, HttpReader, Reader, ReaderUnusable
from ocr.evaluation.report import Evaluation, as_json, as_text
from ocr.evaluation.results import Result

#: what a shell takes for "ended by Ctrl-C"
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Read the labelled pictures of FOLDER (labels.jsonl and the pictures beside it) and say how well they were "
        "read. Without --base-url the model of MODEL_REPO_ID is loaded into this process and asked as POST /ktp-ocr/ "
        "asks it; no database is needed and nothing is stored. Ctrl-C shows the figures of what was read until then."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER")
        parser.add_argument(
            "--base-url",
            metavar="URL",
            help="ask the server at this address, like http://127.0.0.1:3000; every picture becomes a reading there",
        )
        parser.add_argument("--api-key", metavar="KEY", default="", help="one of that server's API_KEYS")
        parser.add_argument(
            "--timeout",
            type=float,
            metavar="SECONDS",
            default=settings.OCR_TIMEOUT_SECONDS + 10,
            help="how long to wait for one answer of the server (default OCR_TIMEOUT_SECONDS and 10 more)",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="read the first N pictures only")
        parser.add_argument(
            "--concurrency",
            type=int,
            metavar="N",
            default=1,
            help="pictures read at a time (default 1, which tells the latency of a single card; more are quicker)",
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
        parser.add_argument(
            "--values",
            action="store_true",
            help="with --json: what is printed and what was read in every wrong field; personal data on real cards",
        )
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures there (.png, .svg or .pdf)")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        check_options(options)
        try:
            specimens = read_folder(folder)[: options["limit"]]
        except BrokenFolder as exc:
            raise CommandError(str(exc)) from exc
        results: list[Result] = []
        stopped: CommandError | None = None
        with contextlib.ExitStack() as closing:
            try:
                reader = self._open_reader(options)
                closing.callback(reader.close)
                started = time.monotonic()
                for result in with_progress(ask_all(reader, specimens, concurrency=options["concurrency"]), specimens):
                    results.append(result)
            except KeyboardInterrupt:
                stopped = CommandError("Interrupted.", returncode=INTERRUPTED)
            except (ReaderUnusable, OSError) as exc:
                stopped = CommandError(str(exc))
            if results:
                seconds = time.monotonic() - started
                evaluation = Evaluation(
                    str(folder), reader.name, options["concurrency"], seconds, len(specimens), results
                )
                self._report(evaluation, options)
        if stopped is not None:
            raise stopped

    def _open_reader(self, options: dict[str, Any]) -> Reader:
        if options["base_url"]:
            return HttpReader(
                options["base_url"],
                api_key=options["api_key"],
                timeout_seconds=options["timeout"],
                on_progress=self._note,
            )
        return EngineReader(self._note)

    def _note(self, stage: str) -> None:
        # Not on stdout, which holds the tables, and not in the red of errors.
        self.stderr.write(stage, style_func=str)

    def _report(self, evaluation: Evaluation, options: dict[str, Any]) -> None:
        self.stdout.write(as_text(evaluation), ending="")
        try:
            if options["json"]:
                found = as_json(evaluation, with_values=options["values"])
                options["json"].write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            if options["plot"]:
                write_plot(evaluation, options["plot"])
        except OSError as exc:
            raise CommandError(f"{exc.filename} cannot be written: {exc.strerror}.") from exc


def check_options(options: dict[str, Any]) -> None:
    """Check early what would otherwise only fail at the end of the work. Raises ``CommandError``."""
    for name in ("limit", "concurrency", "timeout"):
        if options[name] is not None and not options[name] > 0:
            raise CommandError(f"--{name} must be above 0; it is {options[name]:g}.")
    if options["api_key"] and not options["base_url"]:
        raise CommandError("--api-key is for a server: say which with --base-url.")
    if options["values"] and not options["json"]:
        raise CommandError("--values adds to the file of --json: say which with --json.")
    for name in ("json", "plot"):
        if options[name] is not None and not options[name].parent.is_dir():
            raise CommandError(f"There is no folder {options[name].parent} to write --{name} into.")
    if options["plot"] is not None:
        try:
            check_plot(options["plot"])
        except PlotImpossible as exc:
            raise CommandError(str(exc)) from exc


def with_progress(results: Generator[Result, None, None], specimens: Sequence[LabelledPicture]) -> Iterator[Result]:
    """The same results, with a bar on the terminal's stderr; none where that is no terminal."""
    cards = exact = 0
    with contextlib.closing(results), tqdm(total=len(specimens), unit=" pictures", disable=None) as bar:
        for result in results:
            cards += result.specimen.is_card
            exact += result.specimen.is_card and not result.wrong
            bar.set_postfix_str(f"{exact} of {cards} cards exact", refresh=False)
            bar.update()
            yield result
