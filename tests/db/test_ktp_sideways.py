"""What a card says appears in no error report, debug page, log, cache, title, name or history but its own pages."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.signals import got_request_exception
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from config.uploads import NamelessTemporaryFileUploadHandler
from ocr import extraction as extractions
from ocr.models import KtpExtraction
from ocr.reading import judging
from sessions_app.store import sweeper
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, reading_extraction, specimen
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

SAID = (CARD["nik"], CARD["nama"], CARD["alamat.name"])
FILE_NAME = "KTP BUDI SPESIMEN.jpg"


@pytest.fixture
def admin() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("admin"))
    return client


def says(text: str) -> list[str]:
    return [value for value in (*SAID, "BUDI SPESIMEN") if value in text]


# --- Error reports ---


class Report:
    """What an error reporter collects: every frame's variables, of the error and of those that led to it."""

    def __init__(self) -> None:
        self.frames = 0
        self.text = ""

    def collect(self, error: BaseException | None) -> None:
        while error is not None:
            trace = error.__traceback__
            while trace is not None:
                self.frames += 1
                self.text += "".join(f"{name}={value!r}\n" for name, value in trace.tb_frame.f_locals.items())
                trace = trace.tb_next
            error = error.__cause__ or error.__context__


@pytest.fixture
def report() -> Iterator[Report]:
    """As Sentry's integrations do it: on the signal of a failed request, and on each record of the log."""
    told = Report()

    def on_request(**kwargs: Any) -> None:
        told.collect(sys.exc_info()[1])

    call_handlers = logging.Logger.callHandlers

    def on_record(self: logging.Logger, record: logging.LogRecord) -> None:
        call_handlers(self, record)
        if record.exc_info:
            told.collect(record.exc_info[1])

    got_request_exception.connect(on_request)
    logging.Logger.callHandlers = on_record  # type: ignore[method-assign]
    # The handler of the settings, which pytest does not install.
    from sessions_app.traceback_scrubbing import ForgettingFilter

    handler = logging.NullHandler()
    handler.handle = lambda record: ForgettingFilter().filter(record)  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield told
    logging.getLogger().removeHandler(handler)
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
    got_request_exception.disconnect(on_request)


def broken(*args: Any, **kwargs: Any) -> Any:
    values = {"nik": CARD["nik"], "nama": CARD["nama"]}
    raise RuntimeError(f"a bug beside {len(values)} values")


def at_the_desk(client: Client) -> Any:
    card = read_extraction()
    changed = {field: getattr(card, field) for field in ("nama", "alamat_name")} | {"nik": "9971234101900007"}
    return client.post(f"/admin/ocr/review/{card.pk}/", {"version": card.version, **changed, "_save": "1"})


def at_the_form(client: Client) -> Any:
    card = read_extraction(User.objects.get(username="admin"))
    return client.post(f"/ocr/{card.pk}/", {"version": card.version, "nama": CARD["nama"] + "X", "action": "save"})


def at_the_end(client: Client) -> Any:
    card = reading_extraction(User.objects.get(username="admin"))
    answer(card.session_id, CARD_JSON)
    return client.get(f"/ocr/{card.pk}/")


def at_the_tray(client: Client) -> Any:
    return client.post("/ocr/", {"image": ContentFile(specimen(), name=FILE_NAME)})


def at_the_api(client: Client) -> Any:
    return client.post("/ktp-ocr/", {"image": ContentFile(specimen(), name=FILE_NAME)})


FAILURES = [
    (at_the_desk, "ocr.reviewing.judge_again"),
    (at_the_desk, "ocr.desk.card.log"),
    (at_the_form, "ocr.reviewing.judge_again"),
    (at_the_end, "ocr.extraction.judge_answer"),
    (at_the_end, "ocr.reading.judging.run_checks"),
    (at_the_end, "ocr.models.KtpExtraction.mark_read"),
    (at_the_end, "ocr.extraction.sweeper.expire"),
    (at_the_tray, "ocr.extraction.safe_name"),
    (at_the_api, "ocr.extraction.safe_name"),
]


@pytest.mark.parametrize(("act", "point"), FAILURES)
def test_an_error_report_has_no_value_of_a_card(
    admin: Client, report: Report, monkeypatch: pytest.MonkeyPatch, act: Callable[[Client], Any], point: str
) -> None:
    failing: list[str] = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        failing.append(point)
        return broken(*args, **kwargs)

    monkeypatch.setattr(point, fail)

    response = act(admin)

    assert failing and response.status_code >= 500
    assert report.frames and not says(report.text), says(report.text)
    assert not says(response.content.decode())


def test_the_sweeps_report_has_no_value_of_a_card(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    card = reading_extraction()
    answer(card.session_id, CARD_JSON)
    monkeypatch.setattr(judging, "run_checks", broken)

    sweeper.sweep()

    assert report.frames and not says(report.text)


@pytest.mark.parametrize("act", [at_the_desk, at_the_form, at_the_end])
def test_the_debug_page_shows_where_and_no_value(
    admin: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, act: Callable[[Client], Any]
) -> None:
    settings.DEBUG = True
    point = "ocr.extraction.judge_answer" if act is at_the_end else "ocr.reviewing.judge_again"
    monkeypatch.setattr(point, broken)

    page = act(admin).content.decode()

    assert "RuntimeError" in page and "in broken" in page.replace("</code>", "").replace("<code>", "")
    assert not says(page), says(page)


def test_the_debug_page_hides_long_numbers_forms_and_files(
    admin: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = True

    def fail(*args: Any) -> Any:
        return int(f"{CARD['nik']}x")

    monkeypatch.setattr("ocr.views.UploadForm", fail)
    page = at_the_tray(admin).content.decode()
    assert "invalid literal" in page and not says(page), says(page)


def test_a_traceback_keeps_its_lines() -> None:
    import traceback

    from sessions_app.traceback_scrubbing import forget_values

    try:
        try:
            broken()
        except RuntimeError as first:
            raise ValueError("second") from first
    except ValueError as error:
        forget_values(error)
        text = "".join(traceback.format_exception(error))
    assert "in broken" in text and "a bug beside" in text


# --- Pages, by the addresses that there are ---


def addresses() -> list[str]:
    """Every address of pages, with an example in place of each parameter."""
    return sorted(set(_addresses(get_resolver().url_patterns, "/")))


def _addresses(patterns: list[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _addresses(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def with_card(route: str, card: KtpExtraction) -> str | None:
    """The address for this card; None for one that is not about cards."""
    if not route.startswith(("/ocr/", "/admin/ocr/")) or "(?P" in route:
        return None
    return re.sub(r"<[^>]+>", str(card.pk), route)


def test_no_page_about_cards_is_kept_by_a_browser_or_names_anybody_in_its_title(admin: Client) -> None:
    card = read_extraction(User.objects.get(username="admin"))
    seen = []
    for route in addresses():
        if (address := with_card(route, card)) is None:
            continue
        response = admin.get(address)
        title = re.search(rb"<title>(.*?)</title>", response.content, re.S) if not response.streaming else None
        assert response.status_code != 200 or "no-store" in response.get("Cache-Control", ""), address
        assert response["Referrer-Policy"] == "same-origin", address
        assert not says(title[1].decode() if title else ""), address
        assert not says(address) and not says(response.get("Content-Disposition", "")), address
        seen += [address] if response.status_code == 200 else []
    assert f"/ocr/{card.pk}/" in seen and f"/ocr/{card.pk}/image/" in seen and "/admin/ocr/review/" in seen
    assert f"/admin/ocr/ktpextraction/{card.pk}/change/" in seen and len(seen) >= 8, seen


def test_no_page_about_cards_lets_the_browser_remember_what_is_typed(admin: Client) -> None:
    card = read_extraction(User.objects.get(username="admin"))
    for address in (f"/ocr/{card.pk}/", f"/admin/ocr/review/{card.pk}/", f"/admin/ocr/ktpextraction/{card.pk}/change/"):
        page = admin.get(address).text
        for tag in re.findall(r"<(?:input|textarea)[^>]*>", page):
            name = re.search(r'name="([^"]*)"', tag)
            if name and name[1] in ("nik", "nama", "alamat_name", "note", "term"):
                form = page[: page.index(tag)].rpartition("<form")[2].partition(">")[0]
                assert 'autocomplete="off"' in tag or 'autocomplete="off"' in form, (address, tag)


# --- What else is written ---


def test_the_admins_own_history_has_no_value_of_a_card(admin: Client) -> None:
    at_the_desk(admin)
    card = read_extraction()
    admin.post(
        "/admin/ocr/ktpextraction/", {"action": "approve_selected", "_selected_action": [str(card.pk)], "index": 0}
    )
    lines = [f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all()]
    assert lines and not says("\n".join(lines))


def test_the_name_of_a_file_is_shown_to_those_who_see_the_values() -> None:
    card = read_extraction()
    KtpExtraction.objects.filter(pk=card.pk).update(file_name=FILE_NAME)
    for role, is_shown in (("Reviewer", True), ("Auditor", False)):
        user = User.objects.create_user(role, is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
        client = Client()
        client.force_login(user)
        page = client.get(f"/admin/ocr/ktpextraction/{card.pk}/change/")
        assert page.status_code == 200 and (FILE_NAME in page.text) == is_shown


def test_the_log_has_no_value_of_a_card_at_any_level(
    admin: Client, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "config", "ocr", "inference", "sessions_app", "django.request"):
        caplog.set_level(logging.DEBUG, name)
    # Libraries never log below INFO: Django would write the contexts of pages and the values of statements.
    assert settings.LOGGING["root"]["level"] not in ("DEBUG", "NOTSET")
    for name in ("django.template", "django.db.backends"):
        caplog.set_level(logging.INFO, name)

    for act in (at_the_desk, at_the_form, at_the_end, at_the_tray):
        act(admin)
    admin.get(f"/admin/ocr/ktpextraction/{read_extraction().pk}/change/")
    extractions.complete_finished()

    assert caplog.text and not says(caplog.text), says(caplog.text)


def test_an_upload_is_in_a_file_without_a_name() -> None:
    handler = NamelessTemporaryFileUploadHandler()
    handler.new_file("image", FILE_NAME, "image/jpeg", 4)
    handler.receive_data_chunk(b"card", 0)
    file: Any = handler.file_complete(4)
    assert file.read() == b"card"
    # On Linux a file that was never linked has a number in place of its name.
    assert isinstance(file.file.name, int) and not hasattr(file, "temporary_file_path")
    handler.upload_interrupted()
    assert file.closed
