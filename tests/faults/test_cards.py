"""A process that dies between storing a reading and removing the text of its session: neither has happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import services
from tests.live.stack import EmbeddedStack, ScaledStack, Stack
from tests.waiting import wait_for

MAKE_A_CARD = """
import django; django.setup()
from tests.db.ktp_cards import CARD_JSON, answer, reading_extraction
extraction = reading_extraction()
answer(extraction.session_id, CARD_JSON)
print(extraction.pk)
"""
#: as the web does it, up to the end of the removal, but not to the commit
COMPLETE_AND_HANG = """
import sys, time
import django; django.setup()
from ocr import extraction
remove = extraction.sweeper.expire
def removed(session_id):
    assert remove(session_id)
    print("removed", flush=True)
    time.sleep(600)
extraction.sweeper.expire = removed
extraction.complete_extraction(sys.argv[1])
"""
LOOK = """
import json
import django; django.setup()
from ocr.models import KtpExtraction
from sessions_app.models import Chunk, SessionMedia
extraction = KtpExtraction.objects.get()
print(json.dumps([extraction.state, bool(extraction.nik), Chunk.objects.exists(), extraction.history.count()]))
"""


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[[str], Stack]]:
    with ExitStack() as running:

        def begin(database: str) -> Stack:
            if database == "sqlite":
                stack: Stack = EmbeddedStack(tmp_path, tiny_model)
                stack.manage("migrate", "--verbosity", "0")
            else:
                urls = {"postgres_url": services.POSTGRES_URL, "redis_url": services.OWN_REDIS_URL}
                stack = ScaledStack(tmp_path, tiny_model, **urls).start(with_worker=False)
            running.callback(stack.stop)
            return stack

        yield begin


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.redis])]
)
def test_a_process_killed_before_the_commit_leaves_the_whole_session_for_the_sweep(
    start: Callable[[str], Stack], database: str
) -> None:
    stack = start(database)
    pk = stack.run_python(MAKE_A_CARD).strip()
    process = stack.launch("complete", "-c", COMPLETE_AND_HANG, pk)
    wait_for(lambda: "removed" in process.log.read_text() or not process.is_running())
    assert process.is_running(), process.log.read_text()
    process.kill()
    del stack.processes["complete"]

    assert json.loads(stack.run_python(LOOK)) == ["reading", False, True, 0]
    stack.manage("sweep")
    assert json.loads(stack.run_python(LOOK)) == ["read", True, False, 1]
