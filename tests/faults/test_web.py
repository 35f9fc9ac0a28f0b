"""Web processes that die or are stopped: clients resume on any other, and no listener is counted for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.faulty_stack import FaultyStack
from tests.faults.reader import Reader
from tests.faults.test_workers import SAMPLED, has_chunks, undisturbed
from tests.live.events import long_question
from tests.live.stack import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_client_of_a_web_process_that_ends_resumes_on_another(stack: FaultyStack, end: str) -> None:
    port = free_port()
    stack.start_web("web-2", port)
    expected = undisturbed(stack, SAMPLED)
    reader = Reader([stack.base_url, f"http://127.0.0.1:{port}"], long_question(session_id="moved", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "moved"))
    getattr(stack.processes.pop("web"), end)()
    assert reader.text() == expected
    assert reader.came_back > 0


def test_listeners_of_a_dead_web_process_do_not_keep_a_session_alive(start_stack: Callable[..., FaultyStack]) -> None:
    stack = start_stack(CANCEL_AFTER_DISCONNECT_SECONDS="1.5", HUB_PRESENCE_SECONDS="0.2", HUB_POLL_SECONDS="0.2")
    Reader([stack.base_url], long_question(session_id="left", max_tokens=4000))
    wait_for(lambda: has_chunks(stack, "left"))
    stack.processes.pop("web").kill()
    wait_for(lambda: stack.query("SELECT 1 FROM sessions_app_chatsession WHERE id = 'left' AND state = 'cancelled'"))
