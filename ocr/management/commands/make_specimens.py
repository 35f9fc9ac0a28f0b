"""``manage.py make_specimens``: fictional cards with their right answers, to measure a reader by."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ocr.specimens import CONDITIONS
from ocr.specimens.folder import LABELS, write_specimens
from ocr.specimens.specimen import DEFAULT_WIDTH


class Command(BaseCommand):
    help = (
        "Write fictional KTP specimens to FOLDER: JPEG files, and what a reader must answer for each in labels.jsonl."
        " No person can have the numbers on them. The same seed gives the same specimens."
    )
    # It has to work before there is a database or a model to check.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="an empty or a new folder, or one of specimens")
        parser.add_argument("--count", type=int, default=100, help="how many (default: 100)")
        parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same specimens (default: 0)")
        parser.add_argument(
            "--condition",
            action="append",
            choices=tuple(CONDITIONS),
            default=[],
            help="how they are shown; repeat it to have several take turns (default: all of them, flat most often)",
        )
        parser.add_argument(
            "--width", type=int, default=DEFAULT_WIDTH, help=f"of the picture in pixels (default: {DEFAULT_WIDTH})"
        )
        parser.add_argument(
            "--processes", type=int, default=os.cpu_count() or 1, help="that draw at once (default: one a core)"
        )

    def handle(
        self,
        *args: Any,
        folder: Path,
        count: int,
        seed: int,
        condition: list[str],
        width: int,
        processes: int,
        verbosity: int = 1,
        **options: Any,
    ) -> None:
        from tqdm import tqdm

        if count < 1 or processes < 1:
            raise CommandError("--count and --processes must be at least 1.")
        if not 256 <= width <= 4096:
            raise CommandError("--width must be between 256 and 4096.")
        if folder.exists() and not (folder / LABELS).exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} exists and is no folder of specimens; choose another or remove it.")
        written = write_specimens(
            folder, count=count, seed=seed, conditions=condition, width=width, processes=min(processes, count)
        )
        try:
            # The bar is written to stderr, and only if that is a terminal.
            for _ in tqdm(written, total=count, unit="card", disable=None if verbosity else True):
                pass
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror or error}") from error
        if verbosity:
            self.stdout.write(self.style.SUCCESS(f"{count} specimens are in {folder}, their answers in {LABELS}."))
