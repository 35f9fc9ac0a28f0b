"""The local model: it runs in a child process, and is loaded again on a reload request or when the child ends."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from PIL import Image

from inference.backends.base import SourceListener
from inference.backends.engine_config import engine_config
from inference.engine.errors import EngineError, EngineStopped, PromptTooLong
from inference.engine.handle import Handle
from inference.engine.progress import Progress
from inference.engine.stats import EngineStats
from inference.engine.types import GenerationRequest, Video
from inference.engine.vision import ModelVision
from inference.engine_process.client import EngineProcess
from inference.errors import ApiError, Unavailable
from inference.media import decode
from inference.media.decoding import decoding_pool
from inference.media.images import header_size
from inference.metrics import engine_losses
from inference.stored_request import StoredRequest
from sessions_app.db import release_connections
from sessions_app.encryption.sealed import check_readable
from sessions_app.models import ChatSession, Chunk

log = logging.getLogger(__name__)

#: progress of a stage is logged at every multiple of this percentage
LOGGED_PERCENT = 10
#: An engine that is lost within SOUND_SECONDS of loading is replaced only after PAUSE_SECONDS, so that one that cannot
#: run does not use up the attempts of every session. The same pause separates two tries to replace it.
SOUND_SECONDS = 60.0
PAUSE_SECONDS = 5.0
#: Tries end after this time. The worker has then failed to load the model, until an operator acts.
RETRY_SECONDS = 300.0
#: pictures up to this total size are not reduced before the processor does it: on a card that is hard to read, the
#: rounding of the processor's own filter decides what the model reads
WHOLE_PIXELS_OF_REQUEST = 2**22


class LocalSource:
    """Loads the model: at first, on every ``reload`` after a failure, and when the engine's process has ended."""

    def __init__(self) -> None:
        #: reasons why an engine was lost; None is a reload request. A SimpleQueue and not an Event, because its ``put``
        #: takes no lock that an interrupted thread may hold.
        self._wakes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._logged = ("", 0)
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
        self._stopped = threading.Event()
        #: protects ``_engine``, which is set before its model is loaded
        self._changed = threading.Lock()
        self._engine: EngineProcess | None = None
        #: rows of the first engine, which fixed the number of slots
        self._rows: int | None = None

    def start(self, listener: SourceListener) -> None:
        self._listener = listener
        # So that pictures can be decoded once the model has loaded.
        decoding_pool().start()
        self._thread.start()

    @property
    def name(self) -> str:
        return self._thread.name

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def reload(self) -> None:
        self._wakes.put(None)

    def stop(self, timeout_seconds: float) -> bool:
        with self._changed:
            is_first = not self._stopped.is_set()
            self._stopped.set()
            engine = self._engine
        self._wakes.put(None)
        if is_first and self._thread.ident is not None:
            decoding_pool().stop()
        return engine is None or engine.stop(timeout_seconds)

    def _run(self) -> None:
        self._listener.engine_pending("")
        #: deadline for tries to replace a lost engine
        retries_until = 0.0
        while True:
            failure, loaded_at, pause = self._load(), time.monotonic(), 0.0
            if self._stopped.is_set():
                return
            if not failure:
                reason = self._wait_for_loss()
                if self._stopped.is_set():
                    return
                self._listener.engine_pending(reason)
                retries_until = time.monotonic() + RETRY_SECONDS
                if time.monotonic() - loaded_at < SOUND_SECONDS:
                    pause = PAUSE_SECONDS
            elif time.monotonic() < retries_until:
                log.warning("the model could not be loaded; trying again in %g s: %s", PAUSE_SECONDS, failure)
                self._listener.engine_pending(_for_callers(failure))
                pause = PAUSE_SECONDS
            else:
                log.error(
                    "the model could not be loaded: %s Fix this, then send SIGHUP or restart the worker.", failure
                )
                self._listener.engine_failed(_for_callers(failure))
                self._wait_for_reload_request()
                if self._stopped.is_set():
                    return
                self._listener.engine_pending("")
            self._pause(pause)
            if self._stopped.is_set():
                return
            log.info("loading the model again")

    def _pause(self, seconds: float) -> None:
        """A reload request or a stop ends it."""
        if seconds:
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=seconds)

    def _wait_for_loss(self) -> str:
        """The reason of the loss. A stop ends the wait."""
        while (reason := self._wakes.get()) is None and not self._stopped.is_set():
            log.info("the reload request is ignored: the model is loaded")
        return reason or ""

    def _wait_for_reload_request(self) -> None:
        """A stop ends the wait."""
        self._wakes.get()
        while not self._wakes.empty():
            self._wakes.get()

    def _load(self) -> str:
        """Load the model. Returns why that failed, or nothing."""
        config = engine_config()
        try:
            with self._changed:
                if self._stopped.is_set():
                    return "The worker stops."
                self._engine = engine = EngineProcess(
                    dataclasses.replace(config, rows=self._rows or config.rows),
                    self._report,
                    self._lost,
                    hidden=settings.OWN_VARIABLES,
                )
            facts = engine.load()
        except EngineError as exc:
            return str(exc)
        except Exception:
            log.exception("the model could not be loaded")
            return "an unexpected error; the log of the worker has the details"
        self._rows = facts.max_batch_size - settings.RESERVED_SLOTS
        log.info(
            "the model %s is ready on %s in process %d,"
            " with room for %d sessions at once (%s) and %d tokens in the running batch",
            settings.SERVED_MODEL_NAME,
            facts.device,
            engine.pid,
            self._rows,
            "MAX_BATCH_SIZE" if settings.MAX_BATCH_SIZE else "by its memory; MAX_BATCH_SIZE sets another number",
            facts.max_running_tokens,
        )
        self._listener.engine_ready(LocalEngine(engine))
        return ""

    def _lost(self, reason: str) -> None:
        """Called on the thread that reads from the engine, before its sessions know."""
        log.error("%s Its sessions continue once their leases have expired.", reason)
        engine_losses.inc()
        self._listener.engine_pending(reason)
        self._wakes.put(reason)

    def _report(self, progress: Progress) -> None:
        step = (progress.stage, progress.percent // LOGGED_PERCENT)
        if step != self._logged:
            self._logged = step
            log.info("loading %s: %s", settings.SERVED_MODEL_NAME, progress)
        self._listener.engine_pending(str(progress))


def _for_callers(failure: str) -> str:
    """They must see the name of the model, and not a path."""
    return failure.replace(settings.MODEL_REPO_ID, settings.SERVED_MODEL_NAME)


class LocalEngine:
    """Sessions on the engine of this worker."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        facts = engine.facts
        self._fingerprint = {
            "revision": facts.revision,
            "dtype": facts.dtype,
            "quantization": facts.quantization,
            "video_frames": settings.MAX_VIDEO_FRAMES,
            "grammars": facts.grammars,
        }
        self._vision = facts.vision

    @property
    def vision(self) -> ModelVision | None:
        return self._vision

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self._fingerprint

    @property
    def max_sessions(self) -> int:
        return self._engine.facts.max_batch_size - settings.RESERVED_SLOTS

    def submit(self, session: ChatSession) -> list[Handle]:
        return [self._engine.submit(request) for request in generation_requests(session, self._vision)]

    def stats(self) -> EngineStats:
        return self._engine.stats()


def generation_requests(session: ChatSession, vision: ModelVision | None) -> list[GenerationRequest]:
    """The stored request with its media decoded again from the stored bytes, and the committed tokens.

    There is one for each requested answer, including complete answers: the engine detects that they have ended.
    Raises ``RequestTooNew``; ``EngineError`` when the stored bytes are not those that were received, because attempts
    would then see different pictures; and ``EngineStopped`` when this process stops decoding or is too slow.
    """
    request = StoredRequest.from_dict(session.request)
    stored = _stored_media(session) if _has_media(request.messages) else []
    committed = Chunk.objects.token_ids_by_choice(session.pk) if session.next_index > 1 else {}
    # Decoding waits for its turn, and sending waits for the engine's process.
    release_connections()
    images, videos = _decoded(stored, vision)
    return [
        GenerationRequest(
            messages=request.messages,
            sampling=dataclasses.replace(request.sampling, seed=request.sampling.seed + choice),
            images=images,
            videos=videos,
            resume_ids=committed.get(choice, ()),
            constraint=request.constraint,
            tools=request.tools,
            one_call=request.one_call,
            ending=request.ending,
            is_further=choice > 0,
        )
        for choice in range(request.choices)
    ]


def _stored_media(session: ChatSession) -> list[tuple[str, bytes]]:
    """(kind, bytes) of each, checked to be those that were received."""
    stored = [(media.kind, media.data, media.sha256) for media in session.media.all()]
    for kind, data, digest in stored:
        check_readable(data)
        if digest and hashlib.sha256(data).hexdigest() != digest:
            raise EngineError(f"The stored {kind} of this request is not the one that was sent.")
    return [(kind, data) for kind, data, _ in stored]


def _decoded(stored: Sequence[tuple[str, bytes]], vision: ModelVision | None) -> tuple[list[Image.Image], list[Video]]:
    pictures = [_size_of(data) for kind, data in stored if kind == "image"]
    if vision is not None:
        # The web process may not have checked this, because the model was still loading.
        tokens = sum(vision.sizes.image_tokens(width, height) for width, height in pictures)
        if tokens >= vision.context_tokens:
            raise PromptTooLong(tokens, vision.context_tokens)
    seen_sizes = vision.sizes if vision else None
    are_few = sum(width * height for width, height in pictures) <= WHOLE_PIXELS_OF_REQUEST
    image_sizes = None if are_few else seen_sizes
    try:
        images = [decode.decode_image(data, image_sizes) for kind, data in stored if kind == "image"]
        videos = [decode.sample_video(data, seen_sizes) for kind, data in stored if kind == "video"]
    except Unavailable as exc:
        raise EngineStopped from exc
    return images, videos


def _size_of(picture: bytes) -> tuple[int, int]:
    try:
        return header_size(picture, param=None)
    except ApiError:  # decoding will raise the specific error
        return 1, 1


def _has_media(messages: Sequence[dict[str, Any]]) -> bool:
    contents = (message["content"] for message in messages)
    return any(part["type"] != "text" for content in contents if not isinstance(content, str) for part in content)
