"""``manage.py build_tiny_model``: build the small local model for tests and demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "Build a small Qwen3-VL of about 1.5 million random weights in FOLDER. It runs the whole real code path, images"
        " and video too, on any machine; its answers mean nothing. A complete folder is left as it is unless --force"
        " is given."
    )
    # It must work before there is a database or a model to check.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "folder",
            nargs="?",
            default="models/tiny",
            type=Path,
            metavar="FOLDER",
            help="where to write the model (default: models/tiny)",
        )
        parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights (default: 0)")
        parser.add_argument("--force", action="store_true", help="replace a complete folder")

    def handle(self, *args: Any, folder: Path, seed: int, force: bool, verbosity: int = 1, **options: Any) -> None:
        # Imported here so that --help does not load torch.
        from transformers.utils import logging

        from inference.tiny_models.vision import build_tiny_model, is_complete

        logging.disable_progress_bar()

        if is_complete(folder) and not force:
            if verbosity:
                self.stdout.write(f"{folder} is complete; nothing to do.")
            return
        if folder.exists() and not is_complete(folder) and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} exists and is not a model folder; choose another or remove it.")
        try:
            build_tiny_model(folder, seed=seed)
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror or error}") from error
        if verbosity:
            self.stdout.write(self.style.SUCCESS(f"{folder} is built (seed {seed})."))
