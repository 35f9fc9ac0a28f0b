"""``manage.py make_ktp_sandbox``: pictures with fixed outcomes, for those who program against ``/ktp-ocr/``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from ocr.sandbox.outcomes import OUTCOMES
from ocr.sandbox.pictures import draw


class Command(BaseCommand):
    help = (
        "Write the pictures of the sandbox to FOLDER: CODE.png for every code of a problem and some errors of the API."
        " A server with OCR_SANDBOX=1 answers each with its outcome, and asks no model. Write them anew after an"
        " update of the server."
    )
    # It has to work before there is a database.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="it is made if it does not exist")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, code in enumerate(OUTCOMES, 1):
            (folder / f"{code}.png").write_bytes(draw(code))
            self.stderr.write(f"\r{number} of {len(OUTCOMES)}", ending="")
        self.stderr.write("")
        self.stdout.write(f"{len(OUTCOMES)} pictures are in {folder}.")
        self.stdout.write(
            "Each gives its code. Those with a number also give nik_unused_district: it is nobody's number."
        )
