"""The front page of the admin: what it shows and to whom, what it costs, and how it stops sessions."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from config.now import charts, sharing, snapshot
from config.now.sharing import SharedCache
from inference.models import ModelWorker
from sessions_app.history import buckets
from sessions_app.history.series import Point
from sessions_app.models import ChatSession
from tests.db.session_states import WORKER, claimed, completed, open_session, say, text
from tests.db.threads import at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

FRONT, FIGURES, TABLE = "/admin/", "/admin/now/", "/admin/now/table/"
VIEW, CANCEL, SEE_WORKERS = "view_chatsession", "cancel_chatsession", "view_modelworker"
GIB = 1024**3


CACHES: list[SharedCache[Any]] = [snapshot.snapshot, snapshot.recent, *charts.histories.values()]


def read_anew() -> None:
    for shared in CACHES:
        shared.forget()


@pytest.fixture(autouse=True)
def _nothing_read_before() -> Iterator[None]:
    read_anew()
    yield
    read_anew()


def staff(*codenames: str, name: str = "watcher") -> Client:
    user, _ = User.objects.get_or_create(username=name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, address: str = FIGURES) -> str:
    response = client.get(address)
    assert response.status_code == 200, response.content
    return response.content.decode()


def running(tokens: int = 3, **columns: Any) -> ChatSession:
    session = claimed(open_session(**columns))
    say(session, *[text("a")] * tokens)
    return session


def worker(**columns: Any) -> ModelWorker:
    return ModelWorker.objects.create(**{"name": WORKER, "model": "tiny", "state": "ready", **columns})


# --- what it shows ---


def test_a_running_session_has_a_line_with_its_tokens_of_how_many() -> None:
    request = {"messages": [], "sampling": {"max_tokens": 1200}, "choices": 2}
    session = running(tokens=7, request=request, caller="key:abc", origin="chat")
    shown = page(staff(VIEW))
    assert session.pk in shown
    assert "7 of 2,400" in shown
    assert "key:abc" in shown


def test_a_request_that_says_no_limit_is_shown_without_one() -> None:
    running(tokens=7, request={"messages": []})
    assert '<span class="now-tokens">7</span>' in page(staff(VIEW))


def test_waiting_sessions_are_counted_with_the_oldest_wait() -> None:
    for minutes in (2, 5):
        session = open_session()
        ChatSession.objects.filter(pk=session.pk).update(
            enqueued_at=timezone.now() - datetime.timedelta(minutes=minutes, seconds=1)
        )
    shown = page(staff(VIEW))
    assert '<strong id="now-waiting">2</strong>' in shown
    assert "the first for 5 min" in shown


def test_a_session_that_is_being_cancelled_says_so_and_has_no_button() -> None:
    session = running()
    ChatSession.objects.filter(pk=session.pk).update(cancel_requested_at=timezone.now())
    shown = page(staff(VIEW, CANCEL))
    assert "Stopping" in shown
    assert reverse("admin:now_stop", args=[session.pk]) not in shown


def test_the_list_is_bounded_and_names_how_many_more_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_ROWS", 2)
    sessions = [running() for _ in range(4)]
    shown = page(staff(VIEW))
    assert [session.pk in shown for session in sessions] == [True, True, False, False]
    assert "2 more run" in shown


def test_a_worker_shows_what_it_reports() -> None:
    load = {"rows": 3, "max_rows": 16, "kv_tokens": 250, "max_kv_tokens": 1000, "device": "NVIDIA H100"}
    worker(load={**load, "gpu_bytes": 20 * GIB, "max_gpu_bytes": 80 * GIB, "tokens_per_second": 41.5}, running=3)
    shown = page(staff(VIEW, SEE_WORKERS))
    for text_shown in (WORKER, "NVIDIA H100", "3 of 16", "250 of 1,000 tokens", "85.9 GB", "41.5", "Ready"):
        assert text_shown in shown


def test_a_worker_of_an_older_version_and_one_that_loads_are_shown_too() -> None:
    worker(load=None)
    worker(name="b", state="loading", progress="2 of 5 files")
    shown = page(staff(VIEW, SEE_WORKERS))
    assert "2 of 5 files" in shown


def test_the_page_says_when_no_worker_is_alive() -> None:
    worker(heartbeat_at=timezone.now() - datetime.timedelta(minutes=5))
    shown = page(staff(VIEW, SEE_WORKERS))
    assert "No worker is alive." in shown
    assert "Gone" in shown


def test_the_page_says_when_redis_is_away(settings: Any) -> None:
    assert "Redis does not answer" not in page(staff(VIEW))
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    snapshot.snapshot.forget()
    assert "Redis does not answer" in page(staff(VIEW))


def test_what_ended_badly_in_the_last_hour_and_the_first_tokens_are_tiles() -> None:
    buckets.add({"failed": 4, "cancelled": 2, "first_token:0.1:0.25": 10, "queue_samples": 1})
    shown = page(staff(VIEW))
    assert "<strong>4</strong>" in shown
    assert "<strong>175 ms</strong>" in shown


@pytest.mark.parametrize("span", ["60m", "24h", "30d", "nonsense"])
def test_each_span_has_its_charts_and_its_table(span: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    with monkeypatch.context() as earlier:
        earlier.setattr(timezone, "now", lambda: now - datetime.timedelta(minutes=2))
        buckets.add({"tokens": 120, "takeovers": 1, "queue_samples": 1})
    client = staff(VIEW)
    assert page(client, f"{FRONT}?span={span}").count('class="now-chart"') == len(charts.CHARTS)
    assert "<td>1</td>" in page(client, f"{TABLE}?span={span}")


def test_a_line_is_broken_where_no_process_wrote() -> None:
    points = [Point(timezone.now(), 60, sums) for sums in ({"queue_samples": 1}, {}, {"queue_samples": 1})]
    path = charts.charts_of(points)[0].lines[0].path
    assert path.count("M") == 2
    assert "L" not in path


@pytest.mark.parametrize(("highest", "top"), [(0, 1), (0.3, 0.5), (1, 1), (7, 10), (120, 200), (5000, 5000)])
def test_axes_end_at_round_figures(highest: float, top: float) -> None:
    assert charts.nice(highest) == pytest.approx(top)


# --- who sees what ---


def test_without_the_right_to_view_sessions_the_page_is_the_list_of_models() -> None:
    session = running()
    client = staff(SEE_WORKERS)
    assert session.pk not in page(client, FRONT)
    assert client.get(FIGURES).status_code == 403
    assert client.get(TABLE).status_code == 403


def test_workers_are_shown_to_those_who_may_view_them() -> None:
    worker()
    assert WORKER not in page(staff(VIEW))


def test_strangers_are_sent_to_the_log_in() -> None:
    for address in (FRONT, FIGURES, TABLE, "/admin/now/stop/?caller=x"):
        assert Client().get(address).status_code == 302


# --- stopping ---


def test_one_click_stops_a_session_and_its_history_says_who_did() -> None:
    session = running()
    client = staff(VIEW, CANCEL)
    answer = client.post(reverse("admin:now_stop", args=[session.pk]), follow=True)
    assert "The session is being stopped." in answer.content.decode()
    session.refresh_from_db()
    assert session.cancel_requested_at is not None
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username, entry.change_message) == (session.pk, "watcher", "Cancelled.")


@pytest.mark.parametrize("make", [completed, lambda: ChatSession(pk="unknown")])
def test_what_has_ended_is_not_stopped_again(make: Any) -> None:
    session = make()
    answer = staff(VIEW, CANCEL).post(reverse("admin:now_stop", args=[session.pk]), follow=True)
    assert "has ended" in answer.content.decode()
    assert not LogEntry.objects.exists()


def test_without_the_right_to_cancel_nothing_can_be_stopped() -> None:
    session = running(caller="key:abc")
    client = staff(VIEW)
    assert "now/stop" not in page(client)
    assert client.post(reverse("admin:now_stop", args=[session.pk])).status_code == 403
    assert client.get(reverse("admin:now_stop_many"), {"caller": "key:abc"}).status_code == 403
    assert client.post(reverse("admin:now_stop_many"), {"caller": "key:abc"}).status_code == 403
    session.refresh_from_db()
    assert session.cancel_requested_at is None


def being_cancelled() -> set[str]:
    return set(ChatSession.objects.exclude(cancel_requested_at=None).values_list("pk", flat=True)) | set(
        ChatSession.objects.filter(state="cancelled").values_list("pk", flat=True)
    )


def test_all_of_a_caller_are_stopped_after_a_question() -> None:
    theirs = [running(caller="key:abc"), open_session(caller="key:abc")]
    other = running(caller="key:xyz")
    client, address = staff(VIEW, CANCEL), reverse("admin:now_stop_many")
    asked = page(client, f"{address}?caller=key:abc")
    assert "Stop all 2 sessions of the caller key:abc" in asked
    assert other.pk not in asked
    assert being_cancelled() == set()
    answer = client.post(address, {"caller": "key:abc"}, follow=True)
    assert "2 sessions are being stopped." in answer.content.decode()
    assert being_cancelled() == {session.pk for session in theirs}
    assert set(LogEntry.objects.values_list("object_id", flat=True)) == being_cancelled()


def test_all_that_a_worker_runs_are_stopped_and_none_that_waits() -> None:
    session, _waiting = running(), open_session()
    client, address = staff(VIEW, CANCEL), reverse("admin:now_stop_many")
    assert "that the worker gpu-host:4711:abc runs" in page(client, f"{address}?worker={WORKER}")
    client.post(address, {"worker": WORKER})
    assert being_cancelled() == {session.pk}


@pytest.mark.parametrize("query", ["", "?caller=a&worker=b", "?caller=" + "x" * 65])
def test_neither_everything_nor_both_can_be_asked_for(query: str) -> None:
    assert staff(VIEW, CANCEL).get(reverse("admin:now_stop_many") + query).status_code == 400


# --- what it costs ---


def queries_of(client: Client) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page(client)
    return len(queries)


def test_the_number_of_queries_does_not_grow_with_what_runs() -> None:
    client = staff(VIEW, CANCEL, SEE_WORKERS)
    counts = []
    for number in (1, 6):
        for each in range(number):
            running()
            worker(name=f"worker {number}.{each}")
        read_anew()
        page(client)  # of new sessions the limits are read, once
        read_anew()
        counts.append(queries_of(client))
    assert counts[0] == counts[1] <= 12


def test_further_viewers_cost_their_own_log_in_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    running()
    clients = [staff(VIEW, name=f"viewer-{number}") for number in range(4)]
    page(clients[0])
    for shared in CACHES:
        monkeypatch.setattr(shared, "_seconds", 3600)
    session_user_and_two_of_permissions = 4
    assert [queries_of(client) for client in clients[1:]] == [session_user_and_two_of_permissions] * 3


def test_viewers_with_other_rights_or_another_language_get_their_own_page() -> None:
    session = running()
    stop = reverse("admin:now_stop", args=[session.pk])
    operator, viewer = staff(VIEW, CANCEL, name="operator"), staff(VIEW, name="viewer")
    assert [stop in page(client) for client in (operator, viewer, operator)] == [True, False, True]
    viewer.cookies["django_language"] = "id"
    assert ["Sesi</th>" in page(client) for client in (viewer, operator)] == [True, False]


# --- when the database does not answer ---


class Source:
    """What a result is made of; it can be away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.value = 0
        self.is_away = False
        self._lock = threading.Lock()

    def __call__(self) -> int:
        if self.is_away:
            raise OperationalError("away")
        with self._lock:
            self.value += 1
            return self.value


def test_many_viewers_at_once_share_one_reading() -> None:
    source = Source()
    shared = SharedCache(source, seconds=3600)
    assert at_once(*times(lambda: shared.get().value, 8)) == [1] * 8
    assert source.value == 1


def test_a_reading_is_made_anew_when_it_is_due() -> None:
    shared = SharedCache(Source(), seconds=0)
    assert [shared.get().value for _ in range(3)] == [1, 2, 3]


def test_the_last_reading_is_shown_as_old_while_the_database_is_away() -> None:
    source = Source()
    shared = SharedCache(source, seconds=0)
    assert not shared.get().is_old
    source.is_away = True
    result = shared.get()
    assert (result.value, result.is_old) == (1, True)
    source.is_away = False
    assert not shared.get().is_old


def test_nobody_waits_for_a_reading_while_there_is_a_young_one() -> None:
    source = Source()
    shared = SharedCache(source, seconds=0)
    shared.get()
    with shared._lock:  # somebody reads, and it takes long
        assert shared.get().value == 1


def test_the_first_reading_that_takes_too_long_is_no_error_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_SECONDS", 0.01)
    with snapshot.snapshot._lock:
        assert "The database does not answer." in page(staff(VIEW))


def test_a_page_with_old_figures_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    session = running()
    client = staff(VIEW)
    page(client)

    def away() -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(snapshot.snapshot, "_read", away)
    monkeypatch.setattr(snapshot.snapshot, "_seconds", 0)
    shown = page(client)
    assert "The database does not answer. These figures are" in shown
    assert session.pk in shown
