"""What becomes of a session before its engine has it: whose it is, and what is not its fault."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from inference.backends.local import generation_requests
from inference.engine.errors import (
    EngineError,
    EngineLost,
    InvalidConstraint,
    InvalidPrompt,
    InvalidSampling,
    PromptTooLong,
    ToolsUnknown,
)
from inference.engine.vision import ModelVision, VisionSizes
from inference.media import decode
from inference.models import ModelWorker
from inference.worker import runner
from inference.worker.lifecycle import Worker
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, transitions
from sessions_app.store.opening import NewMedia
from sessions_app.store.sweeper import release_expired_leases
from sessions_app.turns import Slot
from tests.db.session_states import claimed, open_session, png, say, text
from tests.media_samples import image_bytes

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
DEADLINE_SECONDS = 20.0


class NoEngine:
    """Reads the session as the real one does, and has no model."""

    vision = None
    fingerprint: dict[str, Any] = {"revision": "this"}
    max_sessions = 3

    def __init__(self) -> None:
        self.unreadable: list[Exception] = []
        #: The runner turns what is raised here into a failed session, so the fixture looks at this.
        self.read: list[str] = []

    def submit(self, session: ChatSession) -> Any:
        try:
            generation_requests(session, None)
        except Exception as exc:
            self.unreadable.append(exc)
            raise
        self.read.append(session.pk)
        raise EngineError("there is no model")

    def stats(self) -> Any:
        raise AssertionError("nobody looks at it")

    def stop(self, timeout_seconds: float) -> bool:
        return True


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that has settled, with a real writer."""
    worker, engine = Worker(), NoEngine()
    worker.engine_ready(engine)
    worker.writer.start()
    yield worker
    assert worker.writer.running == 0
    assert engine.read == [], "no session of these tests comes as far as the model"
    worker.writer.stop(DEADLINE_SECONDS)


def test_a_worker_has_as_many_slots_as_its_engine_runs_sessions() -> None:
    worker = Worker()
    assert not worker.slots.acquire(blocking=False), "nothing is claimed without an engine"
    worker.engine_ready(NoEngine())
    assert [worker.slots.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def run(session: ChatSession, worker: Worker) -> str:
    """Run it, if it can be claimed; its state then."""
    for taken in runner.claim_next(worker, Slot.COMMON, 1):
        runner.run_claimed(worker, taken)
    session.refresh_from_db()
    return session.state


def test_a_worker_that_stops_takes_nothing_more(worker: Worker) -> None:
    session = open_session()
    worker.draining.set()
    assert run(session, worker) == State.QUEUED
    assert session.attempt == 0


def test_what_another_worker_runs_is_left_to_it(worker: Worker) -> None:
    session = claimed(open_session())
    assert run(session, worker) == State.RUNNING
    assert session.attempt == 1
    assert session.worker != worker.name


def test_a_request_of_a_newer_version_fails_with_an_error_that_says_so(worker: Worker) -> None:
    session = open_session(request={"version": 99, "messages": [], "sampling": {"max_tokens": 5}, "audio": []})
    assert run(session, worker) == State.FAILED
    assert session.error is not None
    assert session.error["code"] == "worker_outdated"
    assert "version 99, with audio" in session.error["message"]
    assert Chunk.objects.get(session=session, index=1).delta["status"] == 503


def receive(session: ChatSession, worker: Worker) -> str:
    """Have the worker take the message about it; its state then."""
    runner.take_message(session.pk, worker)
    session.refresh_from_db()
    return session.state


def test_a_session_whose_engine_is_lost_is_left_to_its_lease_which_counts_the_loss(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(engine: NoEngine, session: ChatSession) -> Any:
        raise EngineLost

    monkeypatch.setattr(NoEngine, "submit", lose)
    session = open_session()
    assert run(session, worker) == State.RUNNING
    assert session.worker == worker.name
    ChatSession.objects.filter(pk=session.pk).update(lease_expires_at=timezone.now())
    assert release_expired_leases() == 1
    session.refresh_from_db()
    assert (session.state, session.workers_lost) == (State.QUEUED, 1)


def test_without_any_model_a_session_fails_with_the_load_error(worker: Worker) -> None:
    worker.engine_failed("out of memory")
    session = open_session()
    assert receive(session, worker) == State.FAILED
    assert session.error is not None
    assert "out of memory" in session.error["message"]
    assert Chunk.objects.get(session=session, index=1).delta["status"] == 503


@pytest.mark.parametrize("state", [ModelWorker.State.READY, ModelWorker.State.LOADING])
def test_while_another_worker_has_or_gets_the_model_a_session_waits_for_it(
    worker: Worker, state: ModelWorker.State
) -> None:
    ModelWorker.objects.create(name="other", model="tiny", state=state)
    worker.engine_failed("out of memory")
    assert receive(open_session(), worker) == State.QUEUED


def test_a_model_that_is_loaded_again_meanwhile_is_waited_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOAD_WAIT_SECONDS", 0.01)
    worker.engine_failed("out of memory")
    worker.engine_pending("loading the weights: 1 of 2 (50%)")
    session = open_session()
    assert receive(session, worker) == State.QUEUED
    assert run(session, worker) == State.QUEUED
    assert session.attempt == 0


def test_a_worker_without_a_free_slot_holds_the_message_until_one_is_free(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()
    looks: list[str] = []

    class Slots(threading.BoundedSemaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            taken = super().acquire(blocking, timeout)
            if not taken:
                tried.set()
            return taken

    monkeypatch.setattr(runner, "SLOT_POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "look_for_sessions", lambda: looks.append("now"))
    worker.slots = Slots(1)
    assert worker.slots.acquire()
    waiting = threading.Thread(target=runner.take_message, args=("later", worker))
    waiting.start()
    assert tried.wait(DEADLINE_SECONDS)
    assert looks == []
    worker.slots.release()
    waiting.join(DEADLINE_SECONDS)
    assert looks == ["now"]
    assert worker.slots.acquire(blocking=False)


def test_a_worker_that_stops_lets_go_of_what_waits_for_a_slot(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SLOT_POLL_SECONDS", 0.01)
    worker.slots = threading.BoundedSemaphore(1)
    assert worker.slots.acquire()
    session = open_session()
    waiting = threading.Thread(target=runner.take_message, args=(session.pk, worker))
    waiting.start()
    worker.drain()
    waiting.join(DEADLINE_SECONDS)
    assert not waiting.is_alive()
    session.refresh_from_db()
    assert session.attempt == 0


def test_what_was_cancelled_before_it_ran_is_not_claimed(worker: Worker) -> None:
    session = open_session()
    transitions.request_cancel(session.pk)
    assert run(session, worker) == State.CANCELLED
    assert session.worker == ""


def test_a_database_that_fails_while_it_is_read_costs_a_session_its_lease_and_not_its_life(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> dict[int, list[int]]:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(Chunk.objects, "token_ids_by_choice", away)
    request = {"messages": [{"role": "user", "content": "Apa ini?"}], "sampling": {"max_tokens": 5}}
    session = claimed(open_session(request=request), **NoEngine.fingerprint)
    say(session, text("Sebuah"))
    transitions.release(session.pk, 1)
    assert run(session, worker) == State.RUNNING
    assert session.attempt == 2
    assert Chunk.objects.filter(session=session).count() == 2


def test_a_request_that_cannot_be_read_fails_without_a_word_of_the_inside(worker: Worker) -> None:
    session = open_session()
    ChatSession.objects.filter(pk=session.pk).update(request={"messages": []})
    assert run(session, worker) == State.FAILED
    assert isinstance(worker.engine, NoEngine)
    assert [type(error) for error in worker.engine.unreadable] == [KeyError]
    assert session.error is not None
    assert session.error["message"] == "The generation failed. The log of the worker has the details."


def test_weights_that_differ_do_not_go_on_with_a_text(worker: Worker) -> None:
    session = claimed(open_session(), revision="other", video_frames=1)
    assert not appending.append(
        [appending.Append(session.pk, 1, 1, [appending.Piece({"type": "text", "text": "a"}, [1])])]
    )
    transitions.release(session.pk, 1)
    assert run(session, worker) == State.FAILED
    assert session.error is not None
    assert "differs in" in session.error["message"]


def test_an_attempt_that_would_see_another_picture_is_refused() -> None:
    content = [{"type": "text", "text": "Apa ini?"}, {"type": "image"}]
    request = {"messages": [{"role": "user", "content": content}], "sampling": {"max_tokens": 5}}
    session = open_session(request=request, media=[png()])
    [asked] = generation_requests(session, None)
    assert len(asked.images) == 1
    session.media.update(data=b"another")
    with pytest.raises(EngineError, match="not the one that was sent"):
        generation_requests(session, None)


def with_pictures(size: tuple[int, int], count: int) -> ChatSession:
    data = image_bytes(size)
    media = [NewMedia("image", "image/png", hashlib.sha256(data).hexdigest(), data) for _ in range(count)]
    content = [{"type": "image"} for _ in range(count)]
    request = {"messages": [{"role": "user", "content": content}], "sampling": {"max_tokens": 4}}
    return open_session(request=request, media=media)


VISION = ModelVision(VisionSizes(32, 2, (4 * 1024, 64 * 1024), (8 * 1024, 256 * 1024)), context_tokens=4096)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a connection to SQLite is kept")
def test_no_connection_is_held_while_pictures_are_decoded_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    decode_image = decode.decode_image

    def note(*arguments: Any) -> Any:
        held.append(connection.connection is not None)
        return decode_image(*arguments)

    monkeypatch.setattr("inference.backends.local.decode.decode_image", note)
    session = with_pictures((40, 40), 1)
    assert connection.connection is not None
    generation_requests(session, None)
    assert [*held, connection.connection is not None] == [False, False]


def test_many_pixels_are_decoded_at_the_size_at_which_the_model_sees_them_and_few_as_they_are() -> None:
    [few] = generation_requests(with_pictures((1000, 800), 2), VISION)
    assert [image.size for image in few.images] == [(1000, 800)] * 2
    [many] = generation_requests(with_pictures((1600, 1200), 3), VISION)
    assert [image.size for image in many.images] == [VISION.sizes.image_size(1600, 1200)] * 3
    assert few.images[0].mode == many.images[0].mode == "RGB"


def test_pictures_that_do_not_fit_the_context_are_refused_before_they_are_decoded() -> None:
    narrow = ModelVision(VISION.sizes, context_tokens=100)
    with pytest.raises(PromptTooLong) as caught:
        generation_requests(with_pictures((1600, 1200), 3), narrow)
    assert caught.value.prompt_tokens == 3 * VISION.sizes.image_tokens(1600, 1200)


@pytest.mark.parametrize(
    ("error", "param", "code"),
    [
        (ToolsUnknown(), "tools", "invalid_request"),
        (InvalidPrompt("no"), "messages", "invalid_request"),
        (InvalidSampling("logit_bias", "no such token"), "logit_bias", "invalid_request"),
        (InvalidConstraint("too large"), None, "invalid_request"),
        (PromptTooLong(9, 8), "messages", "context_length_exceeded"),
    ],
)
def test_what_the_engine_refuses_names_the_parameter_at_fault(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: EngineError, param: str | None, code: str
) -> None:
    def refuse(session: ChatSession) -> None:
        raise error

    monkeypatch.setattr(worker.engine, "submit", refuse)
    session = open_session()
    assert run(session, worker) == State.FAILED
    assert session.error is not None
    assert (session.error["param"], session.error["code"]) == (param, code)
