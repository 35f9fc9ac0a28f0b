"""``manage.py export_readings``: many readings with all values, into a file that only its owner reads."""

from __future__ import annotations

import datetime
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ocr.audit.recording import Actor
from ocr.export import PAGE_READINGS, Export, looks_like_nik
from ocr.models import KtpExtraction
from sessions_app.encryption.keyring import DataKeyMissing


class Command(BaseCommand):
    help = (
        "Export the readings of a time with all values, as CSV or JSON. What is exported is in the audit log. For what "
        "is held about one person: manage.py ktp export."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("output", metavar="FILE", help="a new file, readable by you alone; - prints it")
        parser.add_argument("--format", choices=("csv", "json"), default="csv", help="csv (default) or json")
        parser.add_argument("--purpose", required=True, metavar="TEXT", help="what for; no name and no NIK")
        parser.add_argument("--since", type=_day, metavar="DAY", help="uploaded on this day or later, YYYY-MM-DD")
        parser.add_argument("--until", type=_day, metavar="DAY", help="uploaded on this day or earlier")
        parser.add_argument("--review", choices=KtpExtraction.Review.values, help="only those in this state")

    def handle(self, *args: Any, **options: Any) -> None:
        if looks_like_nik(options["purpose"]):
            raise CommandError("--purpose looks like a NIK. The audit log keeps it, so it names no person.")
        rows = KtpExtraction.objects.all()
        if options["since"]:
            rows = rows.filter(created_at__gte=_midnight(options["since"]))
        if options["until"]:
            rows = rows.filter(created_at__lt=_midnight(options["until"] + datetime.timedelta(days=1)))
        if options["review"]:
            rows = rows.filter(review=options["review"])
        most = settings.OCR_EXPORT_MAX_READINGS
        ids = list(rows.order_by("-created_at", "pk").values_list("pk", flat=True)[: most + 1])
        if len(ids) > most:
            raise CommandError(f"There are more than {most} of them (OCR_EXPORT_MAX_READINGS). Export them by day.")
        if not ids:
            raise CommandError("There is no such reading.")
        export = Export(options["format"], ids, Actor.of_command(), options["purpose"])
        try:
            self._write(export, options["output"])
        except DataKeyMissing as exc:
            raise CommandError(str(exc)) from exc

    def _write(self, export: Export, output: str) -> None:
        if output == "-":
            for piece in export.pieces():
                sys.stdout.buffer.write(piece)
            return
        try:
            file = os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError as exc:
            raise CommandError(f"The file cannot be written: {exc}") from exc
        with file:
            for page, piece in enumerate(export.pieces()):
                file.write(piece)
                self.stderr.write(f"{min((page + 1) * PAGE_READINGS, len(export.ids)):,} of {len(export.ids):,} …")
        self.stderr.write(f"{len(export.ids):,} readings are in {output}.")


def _day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def _midnight(day: datetime.date) -> datetime.datetime:
    return timezone.make_aware(datetime.datetime.combine(day, datetime.time()))
