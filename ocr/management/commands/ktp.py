"""``manage.py ktp``: end the time of readings, and give holders of cards what they may ask for."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from django.utils.timezone import make_aware

from ocr import free_space, retention
from ocr.audit.recording import Action, Actor, record, record_each
from ocr.erasing import Erasure, NotAReference, erase
from ocr.freezing import Frozen, freeze, unfreeze
from ocr.management.asking import HIDDEN, Refusing, ask_hidden, confirm
from ocr.models import KtpExtraction
from ocr.persons import export, receipts, restoring
from ocr.persons.finding import NotANik, find_by_ids, find_by_name, find_by_nik
from ocr.refusals import ReasonMissing
from ocr.tombstones import GIVEN_BY_PEOPLE, Why
from sessions_app.encryption.keyring import DataKeyMissing
from sessions_app.management.terminal import ExamplesKept, as_json_line, table

EPILOG = """\
The NIK and the name are read from standard input, or asked for without showing what is typed. They are never an
argument, which other users of this machine and the history of the shell would see.

  manage.py ktp purge --dry-run
  manage.py ktp find --nik
  manage.py ktp export --nik --format csv --output /safe/place/request-12.zip
  manage.py ktp erase --nik --why request --reference PDP-12 --receipt receipt.json
  manage.py ktp freeze --id 0190… --why "Police report 7"
  manage.py ktp verify receipt.json
  manage.py ktp tombstones --since 2026-11-01 > tombstones.jsonl
"""


class Command(BaseCommand):
    help = "Purge readings whose time is over; find, export, erase or freeze what is held about a person."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EPILOG, formatter_class=ExamplesKept, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_subparsers(
            dest="what", required=True, metavar="{purge,find,export,erase,freeze,unfreeze,verify,tombstones,bury}"
        )
        purging = what.add_parser("purge", help="erase readings and pictures whose time is over")
        purging.add_argument("--dry-run", action="store_true", help="count them, and erase nothing")
        purging.add_argument("--no-vacuum", action="store_true", help="PostgreSQL: leave dead rows to autovacuum")
        finding = what.add_parser("find", help="what is held about a person, masked")
        exporting = what.add_parser("export", help="a copy of everything that is held about a person")
        exporting.add_argument(
            "--format", choices=tuple(export.FORMATS), default="json", help="json (default), or csv in a zip"
        )
        exporting.add_argument(
            "--output", required=True, metavar="FILE", help="a new file, readable by you alone; - prints it"
        )
        erasing = what.add_parser("erase", help="erase it everywhere, and give a receipt")
        erasing.add_argument(
            "--why", required=True, choices=[str(why) for why in GIVEN_BY_PEOPLE], help="for the tombstone"
        )
        erasing.add_argument("--reference", default="", metavar="NUMBER", help="of the request: no NIK and no name")
        erasing.add_argument("--receipt", metavar="FILE", help="write the receipt into this new file, as JSON")
        erasing.add_argument("--yes", action="store_true", help="do not ask whether to erase")
        freezing = what.add_parser("freeze", help="legal hold: keep it until it is unfrozen")
        unfreezing = what.add_parser("unfreeze", help="end the legal hold")
        for hold in (freezing, unfreezing):
            hold.add_argument("--why", required=True, metavar="TEXT", help="in words; kept in the history of the card")
        verifying = what.add_parser("verify", help="whether a receipt is genuine, and its readings are gone")
        verifying.add_argument("file", metavar="RECEIPT", help="the JSON file")
        listing = what.add_parser("tombstones", help="what was erased, a line of JSON each: keep it beside backups")
        listing.add_argument("--since", type=_day, metavar="YYYY-MM-DD", help="from this day on")
        burying = what.add_parser("bury", help="after a backup is restored: erase what was erased since it was made")
        burying.add_argument("file", metavar="FILE", help="what tombstones printed before")
        for chosen in (finding, exporting, erasing, freezing, unfreezing):
            whom = chosen.add_mutually_exclusive_group(required=True)
            whom.add_argument("--nik", action=Refusing, help="ask for the NIK, or read it from standard input")
            whom.add_argument("--name", action=Refusing, help="as --nik, for the whole name")
            whom.add_argument("--id", nargs="+", type=uuid.UUID, metavar="ID", help="these readings")
            chosen.add_argument(HIDDEN, nargs="*", action=Refusing, help=argparse.SUPPRESS)

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        try:
            getattr(self, f"_{what}")(options)
        except DataKeyMissing as exc:
            raise CommandError(f"Readings cannot be searched: {exc}") from exc

    def _purge(self, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            for step, count in retention.counts_due().items():
                self.stdout.write(f"{step}: {count:,} would go")
            self.stdout.write("Nothing was erased.")
            return

        def tell(step: str, count: int) -> None:
            self.stderr.write(f"{step}: {count:,} …")

        done = retention.purge(actor=Actor.of_command(), progress=tell)
        for step, count in done.items():
            self.stdout.write(f"{step}: {count:,} erased")
        if not done:
            self.stdout.write("Nothing is due.")
        elif not options["no_vacuum"]:
            self._vacuum()

    def _find(self, options: dict[str, Any]) -> None:
        cards = self._cards(options)
        record(
            Action.SEARCHED,
            actor=Actor.of_command(),
            facts={"by": _by(options), "count": len(cards), "cards": [str(card.pk) for card in cards]},
        )
        self.stdout.write(_listed(cards))

    def _export(self, options: dict[str, Any]) -> None:
        cards = self._cards(options)
        if not cards:
            raise CommandError("Nothing is held.")
        facts = {"format": options["format"], "by": _by(options)}
        record_each(Action.EXPORTED, [card.pk for card in cards], actor=Actor.of_command(), facts=facts)
        whole = KtpExtraction.objects.filter(pk__in=[card.pk for card in cards]).select_related("image")
        write = export.write_json if options["format"] == "json" else export.write_zip
        if options["output"] == "-":
            write(whole.iterator(1), sys.stdout.buffer)
            return
        with _new_file(options["output"]) as file:
            count = write(whole.iterator(1), file)
        self.stderr.write(f"{count} readings are in {options['output']}.")

    def _erase(self, options: dict[str, Any]) -> None:
        cards = self._cards(options)
        if not cards:
            raise CommandError("Nothing is held.")
        facts = {"where": "erase", "count": len(cards), "cards": [str(card.pk) for card in cards]}
        record(Action.LISTED, actor=Actor.of_command(), facts=facts)
        self.stderr.write(_listed(cards))
        if not options["yes"]:
            confirm(f"Erase {len(cards)} readings everywhere? This cannot be undone.")
        # Before anything is erased: a receipt that cannot be written would be lost.
        file = _new_file(options["receipt"]) if options["receipt"] else None

        def tell(erasure: Erasure) -> None:
            self.stderr.write(f"{len(erasure.readings):,} of {len(cards):,} …")

        try:
            erasure = erase(
                [card.pk for card in cards],
                why=Why(options["why"]),
                by=Actor.of_command(),
                reference=options["reference"],
                on_batch=tell,
            )
        except (Frozen, NotAReference) as exc:
            if file is not None:
                file.close()
                Path(options["receipt"]).unlink()
            raise CommandError(str(exc)) from exc
        receipt = receipts.receipt_of(erasure)
        if file is not None:
            with file:
                file.write(json.dumps(receipt, indent=1).encode() + b"\n")
        self.stdout.write(receipts.as_text(receipt))
        self._vacuum()
        if erasure.frozen:
            raise CommandError(f"Not all of them are erased. {Frozen(erasure.frozen)}")

    def _freeze(self, options: dict[str, Any]) -> None:
        self._hold(options, freeze, "frozen")

    def _unfreeze(self, options: dict[str, Any]) -> None:
        self._hold(options, unfreeze, "unfrozen")

    def _hold(self, options: dict[str, Any], change: Any, told: str) -> None:
        cards = self._cards(options)
        if not cards:
            raise CommandError("Nothing is held.")
        try:
            changed = sum(change(card, options["why"], by=Actor.of_command()) for card in cards)
        except ReasonMissing:
            raise CommandError("--why: a reason in words is needed.") from None
        self.stdout.write(f"{changed} of {len(cards)} readings are {told} now; the others were before.")

    def _verify(self, options: dict[str, Any]) -> None:
        try:
            with Path(options["file"]).open("rb") as file:
                receipt = receipts.read_receipt(file.read(receipts.MAX_RECEIPT_BYTES))
        except (OSError, receipts.NotAReceipt) as exc:
            raise CommandError(str(exc)) from exc
        wrong = receipts.verify(receipt)
        for line in wrong:
            self.stderr.write(line)
        if wrong:
            raise CommandError(f"{len(wrong)} things are not as the receipt says.")
        self.stdout.write(f"The receipt is genuine, and its {len(receipt['readings'])} readings are gone.")

    def _tombstones(self, options: dict[str, Any]) -> None:
        for line in restoring.lines_since(options["since"]):
            self.stdout.write(as_json_line(line))

    def _bury(self, options: dict[str, Any]) -> None:
        count = 0
        try:
            with Path(options["file"]).open() as file:
                for erased in restoring.bury(file, Actor.of_command()):
                    count += erased
                    self.stderr.write(f"{count:,} …")
        except (OSError, UnicodeDecodeError, restoring.NotATombstone, Frozen) as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{count:,} readings had come back, and are erased.")
        self._vacuum()

    def _cards(self, options: dict[str, Any]) -> Sequence[KtpExtraction]:
        rows: QuerySet[KtpExtraction]
        if options["id"]:
            rows = find_by_ids(options["id"])
        elif options["name"]:
            rows = find_by_name(ask_hidden("Name"))
        else:
            try:
                rows = find_by_nik(ask_hidden("NIK"))
            except NotANik as exc:
                raise CommandError(str(exc)) from exc
        return list(rows)

    def _vacuum(self) -> None:
        for name in free_space.vacuum():
            self.stderr.write(f"vacuumed {name}")


def _day(text: str) -> datetime.datetime:
    try:
        return make_aware(datetime.datetime.combine(datetime.date.fromisoformat(text), datetime.time()))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day as YYYY-MM-DD.") from None


def _by(options: dict[str, Any]) -> str:
    return "id" if options["id"] else "name" if options["name"] else "nik"


def _listed(cards: Sequence[KtpExtraction]) -> str:
    if not cards:
        return "Nothing is held."
    heads = ("READING", "UPLOADED", "BY", "NIK", "NAME", "STATE", "REVIEW", "PICTURE", "FROZEN")
    return table(
        heads,
        [
            (
                str(card.pk),
                f"{card.created_at:%Y-%m-%d %H:%M}",
                card.uploaded_by.get_username() if card.uploaded_by else "API",
                card.masked_nik,
                card.masked_name,
                card.state,
                card.review,
                "yes" if getattr(card, "image", None) is not None else "no",
                "yes" if card.frozen_at else "no",
            )
            for card in cards
        ],
    )


def _new_file(name: str) -> IO[bytes]:
    try:
        return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as exc:
        raise CommandError(f"The file cannot be written: {exc}") from exc
