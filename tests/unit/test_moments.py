"""Times on pages: one format, in the zone of ``TIME_ZONE``."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.template import Context, Template
from django.utils import translation

from sessions_app.admin import formatting

MOMENT = datetime.datetime(2026, 5, 3, 17, 4, 9, 87_654, datetime.UTC)


@pytest.fixture(autouse=True)
def jakarta(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Jakarta"


def test_a_moment_is_local_and_to_the_second() -> None:
    assert formatting.moment(MOMENT) == "4 May 2026, 00:04:09"
    assert formatting.moment(None) == "–"


def test_what_happens_many_times_a_second_is_shown_to_the_millisecond() -> None:
    assert formatting.precise_moment(MOMENT) == "4 May 2026, 00:04:09.087"


def test_months_are_in_the_readers_language() -> None:
    with translation.override("id"):
        assert formatting.moment(MOMENT) == "4 Mei 2026, 00:04:09"


@pytest.mark.parametrize("name", ["DATETIME_FORMAT", "SHORT_DATETIME_FORMAT"])
@pytest.mark.parametrize("language", ["en", "id"])
def test_templates_write_the_same(name: str, language: str) -> None:
    with translation.override(language):
        written = Template("{{ at|date:name }}").render(Context({"at": MOMENT, "name": name}))
        assert written == formatting.moment(MOMENT)
