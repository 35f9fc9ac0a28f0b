"""The history of figures: counted by processes, added up in buckets, kept small, read as series."""

from __future__ import annotations

import datetime
import threading

import pytest
from django.db import OperationalError
from django.utils import timezone

from inference.metrics import first_token, generation_tokens, takeovers
from sessions_app import metrics
from sessions_app.history import buckets, series, writer
from sessions_app.history.models import HistoryFigure
from sessions_app.history.series import LAST_DAY, LAST_HOUR, LAST_MONTH, SPANS, Span, span_of
from sessions_app.history.writer import HistoryWriter
from sessions_app.store.sweeper import sweep
from tests.db.session_states import open_session
from tests.db.threads import at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

#: the middle of a minute, of a quarter and of six hours
NOON = datetime.datetime(2026, 3, 1, 12, 0, 30, tzinfo=datetime.UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


NOW = datetime.timedelta()


def add(clock: Clock, ago: datetime.timedelta = NOW, /, **counts: int) -> None:
    clock.now = NOON - ago
    buckets.add({"queue_samples": 1, **counts})
    clock.now = NOON


def minutes(number: float) -> datetime.timedelta:
    return datetime.timedelta(minutes=number)


def total(name: str) -> int:
    return sum(HistoryFigure.objects.filter(name=name).values_list("value", flat=True))


# --- adding ---


def test_processes_add_to_the_same_row() -> None:
    buckets.add({"tokens": 5})
    buckets.add({"tokens": 7, "resumes": 1})
    rows = HistoryFigure.objects.order_by("name").values_list("name", "value")
    assert list(rows) == [("resumes", 1), ("tokens", 12)]


def test_nothing_is_lost_when_many_add_at_once() -> None:
    names = ["tokens", "resumes", "errors"]

    def add_often() -> None:
        for turn in range(10):
            buckets.add(dict.fromkeys(names if turn % 2 else reversed(names), 1))

    at_once(*times(add_often, 4))
    assert [total(name) for name in names] == [40, 40, 40]


def test_what_did_not_happen_has_no_row() -> None:
    buckets.add({"tokens": 0})
    assert not HistoryFigure.objects.exists()


# --- what a process writes ---


def test_a_process_writes_what_it_has_counted_since_the_last_time() -> None:
    process = HistoryWriter()
    generation_tokens.inc(30)
    process.write()
    generation_tokens.inc(12)
    process.write()
    process.write()
    assert total("tokens") == 42


def test_every_figure_is_taken_from_what_prometheus_is_told() -> None:
    process = HistoryWriter()
    metrics.count_opened("chat", [])
    for state, reason in (("completed", "length"), ("failed", ""), ("failed", ""), ("cancelled", "cancelled")):
        metrics.count_end(state, reason)
    metrics.resumes.inc()
    takeovers.inc(2)
    metrics.http_requests.labels("/v1/models", "503").inc()
    metrics.http_requests.labels("/v1/models", "404").inc()
    first_token.observe(0.2)
    open_session()
    open_session()
    process.write()
    figures = dict(HistoryFigure.objects.values_list("name", "value"))
    opened_by_both = 1 + 2
    assert figures == {
        "opened": opened_by_both,
        "completed": 1,
        "failed": 2,
        "cancelled": 1,
        "resumes": 1,
        "takeovers": 2,
        "errors": 1,
        "first_token:0.1:0.25": 1,
        "queue": 2,
        "queue_samples": 1,
    }


def test_what_the_database_did_not_take_is_written_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    process = HistoryWriter()
    generation_tokens.inc(5)
    with monkeypatch.context() as away:
        away.setattr(buckets, "add", _refuse)
        process.write()
    generation_tokens.inc(5)
    process.write()
    assert total("tokens") == 10


def _refuse(counts: object) -> None:
    raise OperationalError("the database is away")


def test_the_last_one_that_stops_writes_the_rest() -> None:
    writer.start_writing()
    writer.start_writing()
    generation_tokens.inc(3)
    writer.stop_writing(20)
    assert total("tokens") == 0
    writer.stop_writing(20)
    assert total("tokens") == 3
    assert "history" not in {thread.name for thread in threading.enumerate()}


# --- keeping it small ---


def test_minutes_of_more_than_a_day_ago_become_hours(clock: Clock) -> None:
    add(clock, datetime.timedelta(hours=26, minutes=5), tokens=3)
    add(clock, datetime.timedelta(hours=26, minutes=50), tokens=4)
    add(clock, datetime.timedelta(hours=24, minutes=55), tokens=5)
    sweep()
    rows = HistoryFigure.objects.filter(name="tokens").order_by("minute").values_list("minutes", "value")
    assert list(rows) == [(60, 3 + 4), (1, 5)]
    sweep()
    assert total("tokens") == 12


def test_hours_of_more_than_thirty_days_ago_are_removed(clock: Clock) -> None:
    for days in (32, 30, 2):
        add(clock, datetime.timedelta(days=days), tokens=days)
    sweep()
    assert sorted(HistoryFigure.objects.filter(name="tokens").values_list("value", flat=True)) == [2, 30]


def test_several_sweepers_fold_each_row_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "BATCH", 7)
    for minute in range(30):
        add(clock, datetime.timedelta(hours=27, minutes=minute), tokens=1)

    def fold_all() -> None:
        while HistoryFigure.objects.filter(minutes=1).exists():
            buckets.fold_old()

    at_once(*times(fold_all, 3))
    assert total("tokens") == 30


# --- series ---


@pytest.mark.parametrize(("span", "points"), [(LAST_HOUR, 60), (LAST_DAY, 96), (LAST_MONTH, 120)])
def test_a_span_has_points_up_to_the_last_whole_minute(span: Span, points: int) -> None:
    found = series.points(span)
    assert len(found) in (points, points + 1)
    last = found[-1]
    assert last.starts_at + datetime.timedelta(seconds=last.seconds) == NOON.replace(second=0)


def test_an_unknown_span_is_the_hour() -> None:
    assert span_of("9y") is LAST_HOUR
    assert span_of("30d") is LAST_MONTH


def test_a_point_has_the_sums_of_its_minutes(clock: Clock) -> None:
    add(clock, minutes(2), tokens=120, queue=6)
    add(clock, minutes(2), tokens=60, queue=0)
    point = series.points(LAST_HOUR)[-2]
    assert (point.tokens_per_second, point.queue) == (3.0, 3.0)


def test_minutes_in_which_nobody_wrote_are_not_known(clock: Clock) -> None:
    add(clock, minutes(2), tokens=120)
    known = [point.is_known for point in series.points(LAST_HOUR)]
    assert known == [False] * 58 + [True, False]


def test_a_month_is_read_from_hours_and_the_last_day_from_minutes(clock: Clock) -> None:
    add(clock, datetime.timedelta(days=20), tokens=1)
    add(clock, datetime.timedelta(hours=2), tokens=2)
    sweep()
    assert sum(point.count("tokens") for point in series.points(LAST_MONTH)) == 3
    assert sum(point.count("tokens") for point in series.points(LAST_DAY)) == 2


def test_the_last_minutes_reach_to_now(clock: Clock) -> None:
    add(clock, failed=1)
    add(clock, minutes(59), failed=2)
    add(clock, minutes(61), failed=4)
    assert series.last_minutes(60).count("failed") == 3


def test_percentiles_are_those_of_all_processes_together(clock: Clock) -> None:
    add(clock, **{"first_token:0.1:0.25": 50})
    add(clock, **{"first_token:0.25:0.5": 50})
    point = series.last_minutes(1)
    assert point.first_token(0.5) == pytest.approx(0.25)
    assert point.first_token(0.75) == pytest.approx(0.375)
    assert point.first_token(0.95) == pytest.approx(0.475)


def test_a_bucket_begins_where_its_own_bound_is(clock: Clock) -> None:
    add(clock, **{"first_token:0.1:0.25": 1, "first_token:10:30": 1})
    assert series.last_minutes(1).first_token(0.75) == pytest.approx(20)


def test_behind_the_last_bound_no_more_is_known_than_that(clock: Clock) -> None:
    add(clock, **{"first_token:300:inf": 4})
    assert series.last_minutes(1).first_token(0.5) == 300


def test_without_a_first_token_there_are_no_percentiles(clock: Clock) -> None:
    add(clock, tokens=1)
    assert series.last_minutes(1).first_token(0.5) is None


@pytest.mark.parametrize("span", SPANS)
def test_a_series_is_one_query(span: Span, clock: Clock, django_assert_num_queries) -> None:
    for hours in range(20):
        add(clock, datetime.timedelta(hours=hours), tokens=1)
    with django_assert_num_queries(1):
        series.points(span)
