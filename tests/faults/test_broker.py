"""Redis away and back, emptied, or never told: the database is the truth, and nothing is lost."""

from __future__ import annotations

import pytest
import redis

from tests import services
from tests.faults.faulty_stack import FaultyStack
from tests.faults.reader import Reader
from tests.faults.test_workers import SAMPLED, has_chunks, undisturbed
from tests.live.events import long_question
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]


def test_a_running_stream_goes_on_while_redis_is_away(stack: FaultyStack) -> None:
    expected = undisturbed(stack, SAMPLED)
    reader = Reader([stack.base_url], long_question(session_id="running", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "running"))
    stack.broker.cut()
    # Every wake-up is lost from here on: what comes, comes by the hub's own look into the database.
    assert reader.text() == expected
    assert reader.came_back == 0
    stack.broker.mend()
    assert undisturbed(stack, SAMPLED) == expected


def test_a_request_made_while_redis_is_away_is_answered_meanwhile(stack: FaultyStack) -> None:
    expected = undisturbed(stack, SAMPLED)
    stack.broker.cut()
    reader = Reader([stack.base_url], long_question(session_id="early", **SAMPLED))
    wait_for(lambda: stack.query("SELECT 1 FROM sessions_app_chatsession WHERE id = 'early' AND state = 'queued'"))
    # The worker finds it in the database: it does not need Redis for that.
    assert reader.text() == expected
    stack.broker.mend()
    assert undisturbed(stack, SAMPLED) == expected


def test_an_emptied_broker_loses_no_queued_and_no_running_session(stack: FaultyStack) -> None:
    expected = undisturbed(stack, SAMPLED)
    running = Reader([stack.base_url], long_question(session_id="running", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "running"))
    with redis.Redis.from_url(services.OWN_REDIS_URL) as broker:
        broker.flushdb()
    later = Reader([stack.base_url], long_question(session_id="later", **SAMPLED))
    assert running.text() == expected
    assert later.text() == expected
