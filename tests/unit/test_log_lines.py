"""What stands in the log: one line a message, nothing that a terminal would obey, and no key to a stream."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.log_lines import (
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    LineFormatter,
    RefusalFilter,
    printable,
    short_id,
)
from sessions_app.models import new_session_id

LOGGING: dict[str, Any] = settings.LOGGING
FORMAT = LOGGING["formatters"]["line"]["format"]
FORGED = "/x\n2026-11-25 00:00:00,000 CRITICAL root [req_forged] all is lost \x1b[31mred\x1b[0m"


def record(message: str, *args: object, exc: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if exc is None else (type(exc), exc, exc.__traceback__)
    made = logging.LogRecord("x", logging.INFO, "x.py", 1, message, args, exc_info)
    made.request_id = "r1"
    return made


def line(message: str, *args: object, exc: BaseException | None = None) -> str:
    return LineFormatter(FORMAT).format(record(message, *args, exc=exc))


def raised(exc: Exception) -> Exception:
    try:
        raise exc
    except type(exc):
        return exc


@pytest.mark.parametrize(
    "char",
    [
        *("\n", "\r", "\t", "\0", "\x0b", "\x0c", "\x1b", "\x1c", "\x1e", "\x7f", "\x85", "\x9b"),
        *("\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\ud83d", "\U000e0041"),
    ],
)
def test_what_does_not_show_is_written_as_an_escape(char: str) -> None:
    text = line("GET %s", f"a{char}b")
    assert char not in text
    assert char.encode("unicode_escape").decode() in text
    assert len(text.splitlines()) == 1


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_can_be_written_and_shown(text: str) -> None:
    shown = line("%s", text)
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize("text", ["Apa kabar?", "naïve 日本語 🙂", "C:\\temp", ""])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_a_forged_line_stays_a_part_of_the_line_it_came_in() -> None:
    [only] = line("GET %s 404", FORGED).splitlines()
    assert only.endswith(r"all is lost \x1b[31mred\x1b[0m 404")


def test_an_error_whose_message_has_lines_forges_none_either() -> None:
    first, *more = line("failed", exc=raised(ValueError(FORGED))).splitlines()
    assert first.endswith("failed")
    assert "Traceback" in more[0]
    assert all(text.startswith("    ") for text in more)
    assert "\x1b" not in "".join(more)


def test_a_long_message_is_cut_and_says_how_long_it_was() -> None:
    text = line("%s", "x" * 12_000)
    assert len(text) < MAX_MESSAGE_CHARS + 200
    assert text.endswith("… (12000 characters)")


def test_a_long_traceback_keeps_its_end_where_the_error_is() -> None:
    text = line("failed", exc=raised(ValueError("y" * 50_000 + " the end")))
    assert len(text) < MAX_TRACEBACK_CHARS + 300
    assert text.endswith("the end")


def test_the_record_is_left_for_the_next_handler_as_it_was() -> None:
    made = record("%s", "a\nb", exc=raised(ValueError("v")))
    LineFormatter(FORMAT).format(made)
    assert made.exc_text is None
    assert made.getMessage() == "a\nb"


@pytest.mark.parametrize("session_id", ["a", "frozen", "my-first-session", new_session_id(), "x" * 64])
def test_a_short_id_is_the_beginning_and_never_the_whole(session_id: str) -> None:
    short = short_id(session_id)
    assert session_id.startswith(short.removesuffix("…"))
    assert len(short) - 1 <= len(session_id) / 2


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/sessions/{}/events 200",
        "POST /v1/cancel/{} 200",
        "GET /admin/sessions_app/chatsession/{}/change/ 403",
        "Internal Server Error: /v1/sessions/{}/events",
    ],
)
@pytest.mark.parametrize("session_id", ["my-first-session", new_session_id()])
def test_an_address_with_a_session_id_is_logged_with_the_short_one(text: str, session_id: str) -> None:
    shown = line(text.format(session_id))
    assert session_id not in shown
    assert text.format(short_id(session_id)) in shown


def test_an_id_of_ours_is_shortened_wherever_it_stands() -> None:
    session_id = new_session_id()
    shown = line("chatcmpl-%s and %s", session_id, session_id, exc=raised(KeyError(session_id)))
    assert session_id not in shown
    assert shown.count(short_id(session_id)) == 3


def test_values_that_the_database_adds_to_an_error_are_left_out() -> None:
    shown = line("failed", exc=raised(ValueError("duplicate key\nDETAIL:  Failing row contains (3174, BUDI).")))
    assert "BUDI" not in shown
    assert "duplicate key" in shown


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("exc", [PermissionDenied("no"), SuspiciousOperation("odd")])
def test_a_refusal_brings_no_stack_trace(status: int, exc: Exception) -> None:
    refused = record("refused", exc=raised(exc))
    refused.status_code = status
    assert RefusalFilter().filter(refused)
    assert refused.exc_info is None


def test_what_the_access_line_says_is_not_said_again() -> None:
    refused = record("Forbidden (Permission denied): %s", "/admin/", exc=raised(PermissionDenied()))
    refused.name, refused.status_code = "django.request", 403
    assert not RefusalFilter().filter(refused)


def test_a_failure_keeps_its_stack_trace() -> None:
    failed = record("Internal Server Error: %s", "/", exc=raised(ValueError()))
    failed.name, failed.status_code = "django.request", 500
    assert RefusalFilter().filter(failed)
    assert failed.exc_info is not None


def test_every_handler_of_the_settings_writes_such_lines() -> None:
    for handler in LOGGING["handlers"].values():
        assert handler["formatter"] == "line"
        assert handler["filters"] == ["forgetting", "request_id", "refusals"]
