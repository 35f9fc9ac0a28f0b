"""``manage.py sessions``: look at sessions, follow one, cancel some."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from sessions_app import privacy
from sessions_app.admin.facts import age, facts_of
from sessions_app.admin.formatting import NONE, count, duration, rate
from sessions_app.history.writer import writing
from sessions_app.log_lines import short_id
from sessions_app.management.finding import find_one
from sessions_app.management.tail import Expired, follow
from sessions_app.management.terminal import ExamplesKept, as_json, as_json_line, shown, table
from sessions_app.models import ChatSession, Chunk
from sessions_app.store.transitions import request_cancel

EPILOG = """\
A session is named by its id or by the beginning of it that the list shows.

  manage.py sessions list --state running
  manage.py sessions tail sess_KSAqM
  manage.py sessions cancel sess_KSAqM
"""
#: columns of a row in JSON output: no text of the request or the answer
FIELDS = (
    *("id", "state", "origin", "model", "request_id", "worker", "attempt", "workers_lost", "next_index"),
    *("finish_reason", "prompt_tokens", "completion_tokens", "created_at", "enqueued_at", "started_at"),
    *("first_token_at", "cancel_requested_at", "lease_expires_at", "finished_at", "expired_at"),
)


class Command(BaseCommand):
    help = "Look at sessions, follow one as it is generated, cancel some."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EPILOG, formatter_class=ExamplesKept, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="{list,show,cancel,tail}")
        listing = what.add_parser("list", help="the youngest sessions", description="The youngest sessions first.")
        listing.add_argument("--state", action="append", choices=ChatSession.State.values, help="may be repeated")
        listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many to show at most (default 20)")
        showing = what.add_parser("show", help="one session's facts", description="Facts, and nothing of its text.")
        cancelling = what.add_parser(
            "cancel", help="stop sessions, wherever they run", description="The text generated so far is kept."
        )
        tailing = what.add_parser(
            "tail",
            help="follow a session's text to its end",
            description="The text as it is committed, from its beginning. Ctrl+C only stops following.",
        )
        tailing.add_argument(
            "--answer", type=int, default=0, metavar="N", help="which of several answers to follow, from 0"
        )
        for parser_of_one in (showing, tailing):
            parser_of_one.add_argument("session", help="its id, or the beginning of it")
        cancelling.add_argument("sessions", nargs="+", metavar="session", help="its id, or the beginning of it")
        for each in (listing, showing, cancelling, tailing):
            each.add_argument("--json", action="store_true", help="for programs: JSON, with whole ids")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        {"list": self._list, "show": self._show, "cancel": self._cancel, "tail": self._tail}[what](options)

    def _list(self, options: dict[str, Any]) -> None:
        sessions = ChatSession.objects.defer("request")
        if options["state"]:
            sessions = sessions.filter(state__in=options["state"])
        chosen = list(sessions[: max(options["limit"], 0)])
        if options["json"]:
            self.stdout.write(as_json([_as_dict(session) for session in chosen]))
        elif not chosen:
            self.stdout.write("No sessions.")
        else:
            self.stdout.write(table(_HEADS, map(_row, chosen)))

    def _show(self, options: dict[str, Any]) -> None:
        session = find_one(ChatSession.objects.defer("request"), options["session"])
        if options["json"]:
            self.stdout.write(as_json(_as_dict(session)))
            return
        facts = [("ID", session.pk), ("State", _state(session))]
        facts += [(fact.label, fact.value) for group in facts_of(session) for fact in group.facts]
        if error := _error(session):
            message = error.get("message")
            facts.append(("Error", f"{error.get('code') or 'error'}{f': {message}' if message else ''}"))
        self.stdout.write(table(("", ""), facts).strip())

    def _cancel(self, options: dict[str, Any]) -> None:
        chosen = [find_one(ChatSession.objects.defer("request"), named) for named in options["sessions"]]
        with writing():
            cancelled = [(session, request_cancel(session.pk)) for session in chosen]
        if options["json"]:
            self.stdout.write(as_json([_as_dict(now) for _, now in cancelled]))
            return
        for before, now in cancelled:
            if before.is_finished:
                news = f"has already ended: {before.state}"
            elif now.is_finished:
                news = "is cancelled"
            else:
                news = f"will be cancelled at its worker's next commit ({now.worker})"
            self.stdout.write(f"{short_id(now.pk)} {news}.")

    def _tail(self, options: dict[str, Any]) -> None:
        session = find_one(ChatSession.objects.defer("request"), options["session"])
        if privacy.is_private(session):
            raise CommandError(
                f"{short_id(session.pk)} is about a person. Its text is shown only in the admin, to users with the "
                f"permission {privacy.permission_for(session.origin)}."
            )
        try:
            if options["json"]:
                for index, delta in follow(session.pk):
                    self.stdout.write(as_json_line({"index": index, **delta}))
                    self.stdout.flush()
                return
            self._print_text(session.pk, options["answer"])
        except KeyboardInterrupt:
            self.stderr.write(
                "\nNo longer following; the session continues. "
                f"To stop it: manage.py sessions cancel {short_id(session.pk)}"
            )
            raise SystemExit(130) from None
        except BrokenPipeError:
            # The reader of the pipe has left, and the interpreter would report an error when it writes the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(1) from None
        except Expired as exc:
            raise CommandError(f"The text of {short_id(session.pk)} has expired and was removed.") from exc
        session.refresh_from_db()
        self.stderr.write(f"\n{short_id(session.pk)} {session.state}: {_ending(session)}")

    def _print_text(self, session_id: str, answer: int) -> None:
        kind = ""
        for _, delta in follow(session_id):
            if "text" not in delta or delta.get("choice", 0) != answer:
                continue
            if delta["type"] != kind:
                # The reasoning comes before the answer, and is separated from it.
                self.stderr.write(f"--- {delta['type']}" if not kind else f"\n--- {delta['type']}")
                kind = delta["type"]
            self.stdout.write(shown(delta["text"]), ending="")
            self.stdout.flush()


_HEADS = ("SESSION", "STATE", "ORIGIN", "AGE", "FIRST TOKEN", "TOKENS", "TOKENS/S", "ATTEMPT", "WORKER")


def _row(session: ChatSession) -> tuple[str, ...]:
    now = timezone.now()
    tokens, speed = session.completion_tokens, session.tokens_per_second
    if session.first_token_at is not None and not session.is_finished:
        tokens = len(Chunk.objects.token_ids_of(session.pk))
        speed = tokens / max((now - session.first_token_at).total_seconds(), 0.001)
    return (
        short_id(session.pk),
        _state(session),
        session.origin,
        duration(age(session, now)),
        duration(session.time_to_first_token),
        count(tokens),
        rate(speed),
        str(session.attempt),
        session.worker or NONE,
    )


def _state(session: ChatSession) -> str:
    is_cancelling = session.cancel_requested_at is not None and not session.is_finished
    return "cancelling" if is_cancelling else session.state


def _ending(session: ChatSession) -> str:
    if session.error:
        return shown(str(session.error.get("message")))
    return f"{session.finish_reason}, {count(session.completion_tokens)} tokens"


def _as_dict(session: ChatSession) -> dict[str, Any]:
    return {name: getattr(session, name) for name in FIELDS} | {"error": _error(session)}


def _error(session: ChatSession) -> dict[str, Any] | None:
    return privacy.error_without_text(session.error) if privacy.is_private(session) else session.error
