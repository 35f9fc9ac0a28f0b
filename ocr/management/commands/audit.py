"""``manage.py audit``: prove that nothing was removed from the audit log, and take it elsewhere."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from ocr.audit.exporting import rows_between
from ocr.audit.models import Action
from ocr.audit.recording import Actor, record
from ocr.audit.verifying import Head, verify
from sessions_app.management.terminal import ExamplesKept, as_json, as_json_line

EPILOG = """\
Keep what "verify" prints as the head outside of this server, for example in a mail to the auditor: a log whose end was
cut off is found only by a head that was noted before.

  manage.py audit verify
  manage.py audit verify --head 1042:9f3c…
  manage.py audit export --since 2026-11-01T00:00 --until 2026-12-01T00:00 > november.jsonl
"""


class Command(BaseCommand):
    help = "Prove that nothing was changed in the audit log or removed from it, and export it."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EPILOG, formatter_class=ExamplesKept, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="{verify,export}")
        verifying = what.add_parser(
            "verify",
            help="look for lines that were changed, removed, inserted or moved",
            description="Reads the whole log. Ends with status 1 if something is wrong, and says with which line.",
        )
        verifying.add_argument("--head", type=_head, metavar="SEQUENCE:HASH", help="a head that was printed before")
        verifying.add_argument("--json", action="store_true", help="for programs: JSON")
        exporting = what.add_parser(
            "export",
            help="the lines between two times, one JSON object a line",
            description="Oldest first. The export is itself a line of the log.",
        )
        exporting.add_argument("--since", type=_time, metavar="TIME", help="ISO 8601; local if it has no offset")
        exporting.add_argument("--until", type=_time, metavar="TIME", help="as --since, and not included")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        {"verify": self._verify, "export": self._export}[what](options)

    def _verify(self, options: dict[str, Any]) -> None:
        def tell(lines: int) -> None:
            if lines % 100_000 == 0:
                self.stderr.write(f"{lines:,} lines …")

        found = verify(known=options["head"], progress=tell)
        if options["json"]:
            self.stdout.write(
                as_json(
                    {
                        "lines": found.lines,
                        "head": str(found.head),
                        "findings": found.findings,
                        "unknown_seals": found.unknown_seals,
                        "unsealed": found.unsealed,
                        "triggers": found.is_guarded,
                    }
                )
            )
        else:
            for finding in found.findings:
                self.stdout.write(self.style.ERROR(finding))
            if found.unknown_seals:
                self.stdout.write(f"{found.unknown_seals:,} lines are sealed with keys that DATA_KEYS does not have.")
            if found.unsealed:
                self.stdout.write(f"{found.unsealed:,} lines have no seal: the server had no key.")
            if not found.is_guarded:
                self.stdout.write(self.style.WARNING("The database's triggers that refuse changes are missing."))
            self.stdout.write(f"{found.lines:,} lines. Head: {found.head}")
        if found.findings:
            raise CommandError(f"The audit log is not whole: {len(found.findings)} findings.")
        if not options["json"]:
            self.stdout.write(self.style.SUCCESS("The audit log is whole."))

    def _export(self, options: dict[str, Any]) -> None:
        count = 0
        for row in rows_between(options["since"], options["until"]):
            self.stdout.write(as_json_line(row))
            count += 1
        record(Action.AUDIT_EXPORTED, actor=Actor.of_command(), facts={"count": count})


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _time(text: str) -> Any:
    try:
        time = parse_datetime(text)
    except ValueError:
        time = None
    if time is None:
        raise argparse.ArgumentTypeError("must be a time like 2026-11-01T00:00.")
    return make_aware(time) if is_naive(time) else time
