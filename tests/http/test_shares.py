"""What one caller may hold of the queue and of the streams: 429 for the greedy, 503 for the full house."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.http import HttpResponse

from sessions_app.callers import caller_with_key
from sessions_app.hub import Hub
from sessions_app.models import ChatSession
from tests.http.test_health_and_errors import HALO, error_of, get, post

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = "/v1/chat/completions"
KEYS = ["key-of-alice-93f1c0d2a7", "key-of-bob-5be77c1d90aa"]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", KEYS)


def ask(key: str | None = None, **fields: object) -> HttpResponse:
    return post(CHAT, HALO | fields, **({"Authorization": f"Bearer {key}"} if key else {}))


def test_the_caller_is_the_key_and_the_key_is_nowhere_in_the_row(keys: None) -> None:
    for key in KEYS:
        ask(key)
    callers = list(ChatSession.objects.order_by("created_at").values_list("caller", flat=True))
    assert callers == [caller_with_key(key) for key in KEYS]
    assert len(set(callers)) == 2
    for row in ChatSession.objects.values():
        assert not any(key in str(row) for key in KEYS)


def test_without_keys_the_caller_is_the_address() -> None:
    ask()
    # Whatever it claims: no key is taken for one where none is set.
    ask("some-key-that-is-not-asked-for")
    assert set(ChatSession.objects.values_list("caller", flat=True)) == {"address:127.0.0.1"}


def test_one_caller_gets_half_of_an_empty_queue_and_another_a_place(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 6)
    statuses = [ask(KEYS[0]).status_code for _ in range(3)]
    assert statuses == [200, 200, 200]
    refused = ask(KEYS[0])
    error = error_of(refused, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert refused["Retry-After"]
    # Nothing was begun: an SDK may send it again.
    assert "X-Should-Retry" not in refused
    assert ask(KEYS[1]).status_code == 200
    assert ChatSession.objects.count() == 4


def test_two_greedy_callers_leave_a_third_of_the_queue(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 9)
    for _ in range(9):
        for key in KEYS:
            ask(key)
    assert ChatSession.objects.count() == 6


def test_who_has_a_place_comes_back_to_it_however_many_it_has(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 2)
    assert ask(KEYS[0], session_id="mine").status_code == 200
    assert ask(KEYS[0]).status_code == 429
    assert ask(KEYS[0], session_id="mine").status_code == 200


def test_an_operator_may_give_a_caller_the_whole_queue_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 4)
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS_PER_CALLER", 4)
    assert [ask().status_code for _ in range(5)] == [200, 200, 200, 200, 503]


def test_a_fixed_number_is_kept_while_the_queue_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS_PER_CALLER", 1)
    assert [ask().status_code for _ in range(2)] == [200, 429]


def test_what_runs_or_has_ended_counts_against_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS_PER_CALLER", 1)
    ask()
    ChatSession.objects.update(state="running")
    assert ask().status_code == 200


def test_a_caller_with_its_share_of_the_streams_gets_no_more_and_others_do(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_OPEN_STREAMS", 6)
    monkeypatch.setattr(Hub, "open_streams", 3)
    monkeypatch.setattr(Hub, "open_streams_of", lambda hub, caller: 3 * (caller == caller_with_key(KEYS[0])))
    refused = ask(KEYS[0], session_id="mine")
    assert error_of(refused, 429)["code"] == "rate_limit_exceeded"
    assert refused["Retry-After"]
    assert not ChatSession.objects.exists()
    assert ask(KEYS[1], session_id="mine").status_code == 200
    events = get("/v1/sessions/mine/events", Authorization=f"Bearer {KEYS[0]}")
    assert error_of(events, 429)["code"] == "rate_limit_exceeded"
    # The session is there. The same request without its id would begin another.
    assert events["X-Should-Retry"] == "false"
