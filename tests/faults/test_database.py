"""The database away: nothing is sent that is not committed, running sessions wait, and all is there when it is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.faulty_stack import FaultyStack
from tests.faults.reader import Reader
from tests.faults.test_workers import SAMPLED, has_chunks, one, undisturbed
from tests.live.events import QUESTION, long_question
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]


@pytest.mark.parametrize("lease_seconds", [1, 60], ids=["taken over", "kept"])
def test_a_stream_survives_the_database_being_away(start_stack: Callable[..., FaultyStack], lease_seconds: int) -> None:
    stack = start_stack(SESSION_LEASE_SECONDS=lease_seconds)
    expected = undisturbed(stack, SAMPLED)
    reader = Reader([stack.base_url], long_question(session_id="through", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "through"))
    stack.database.cut()
    with stack.client() as http:
        refused = http.post("/v1/chat/completions", json=QUESTION | {"stream": False})
        health = http.get("/health").json()
    committed = one(stack, "SELECT next_index FROM sessions_app_chatsession WHERE id = 'through'")
    sent = len(reader.events)
    stack.database.mend()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "database_unavailable"
    assert int(refused.headers["Retry-After"]) > 0
    assert (health["ok"], health["modelReady"]) == (False, False)
    assert sent <= committed
    assert reader.text() == expected
    wait_for(lambda: one(stack, "SELECT state FROM sessions_app_chatsession WHERE id = 'through'") == "completed")
