"""One caller has everything waiting that there is room for; another's chat and card are claimed before all of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import services
from tests.live.conftest import SCALED
from tests.live.events import QUESTION, long_question, read_stream
from tests.live.stack import EmbeddedStack, ScaledStack, Stack
from tests.media_samples import image_bytes

GREEDY, OTHER = "greedy-3f9d81c07ba264e5", "other-b7702ce94d8815fa"
SETTINGS: dict[str, object] = {"API_KEYS": f"{GREEDY},{OTHER}", "MAX_BATCH_SIZE": 2, "QUEUE_POLL_SECONDS": 1}
QUEUED = 40


@pytest.fixture(params=["embedded", SCALED])
def small_server(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Iterator[Stack]:
    stack: EmbeddedStack | ScaledStack
    if request.param == "embedded":
        stack = EmbeddedStack(tmp_path, tiny_model, **SETTINGS)
    else:
        redis_url = services.OWN_REDIS_URL
        stack = ScaledStack(tmp_path, tiny_model, postgres_url=services.POSTGRES_URL, redis_url=redis_url, **SETTINGS)
    try:
        yield stack.start()
    finally:
        stack.stop()


@dataclasses.dataclass(frozen=True)
class Claims:
    of_greedy: int
    waiting: int


def claims_between(server: Stack, caller: str, origin: str) -> Claims:
    """Of the greedy caller: what was claimed while the other's session waited, and what waits still."""
    [(asked, started)] = server.query(
        "SELECT created_at, started_at FROM sessions_app_chatsession WHERE caller = ? AND origin = ?", caller, origin
    )
    [(claimed,)] = server.query(
        "SELECT count(*) FROM sessions_app_chatsession WHERE caller <> ? AND started_at BETWEEN ? AND ?",
        *(caller, asked, started),
    )
    [(waiting,)] = server.query("SELECT count(*) FROM sessions_app_chatsession WHERE state = 'queued'")
    return Claims(claimed, waiting)


def test_neither_a_chat_nor_a_card_waits_behind_a_flood_of_another(small_server: Stack) -> None:
    with small_server.client(headers={"Authorization": f"Bearer {GREEDY}"}) as http:
        for number in range(QUEUED):
            # Whoever leaves keeps what has a name.
            body = long_question(session_id=f"flood-{number}")
            with http.stream("POST", "/v1/chat/completions", json=body) as response:
                assert response.status_code == 200
    with small_server.client(headers={"Authorization": f"Bearer {OTHER}"}) as http:
        events = read_stream(http, QUESTION)
        assert events[-1].data == "[DONE]"
        card = http.post("/ktp-ocr/", files={"image": ("a.png", image_bytes((64, 64)))})
        assert card.status_code == 200
    [(other,)] = small_server.query("SELECT caller FROM sessions_app_chatsession WHERE origin = 'ocr'")
    for origin in ("chat", "ocr"):
        claims = claims_between(small_server, other, origin)
        # As many as ended in that moment, of two slots; in the order of arrival it would be all of them.
        assert claims.of_greedy <= 2
        assert claims.waiting > QUEUED // 2


def test_what_was_left_without_a_name_ends_soon(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(MAX_BATCH_SIZE=1, CANCEL_UNNAMED_AFTER_SECONDS=1, HUB_PRESENCE_SECONDS=0.2)
    with server.client() as http:
        for fields in ({}, {}, {}, {"session_id": "mine"}):
            with http.stream("POST", "/v1/chat/completions", json=long_question(**fields)) as response:
                assert response.status_code == 200
        # It waits behind the four until they end; of these, three do by themselves.
        assert read_stream(http, QUESTION | {"session_id": "last"})[-1].data == "[DONE]"
    states = dict(server.query("SELECT id, state FROM sessions_app_chatsession"))
    assert states.pop("last") == "completed"
    assert states.pop("mine") in ("queued", "running", "completed")
    assert set(states.values()) <= {"cancelled", "completed"}
    assert "cancelled" in states.values()
