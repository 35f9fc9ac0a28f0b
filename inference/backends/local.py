"""The model of this process: loaded in a separate thread, again on a reload request, and run by the engine."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from PIL import Image

from inference.backends.base import SourceListener
from inference.backends.engine_start import start_engine
from inference.engine import grammar
from inference.engine.engine import Engine, EngineStats
from inference.engine.errors import EngineError, EngineStopped, PromptTooLong
from inference.engine.handle import Handle
from inference.engine.loading import LoadedModel
from inference.engine.progress import Progress
from inference.engine.types import GenerationRequest, Video
from inference.engine.vision import ModelVision, VisionSizes
from inference.errors import ApiError, Unavailable
from inference.media import decode
from inference.media.decoding import decoding_pool
from inference.media.images import header_size
from inference.stored_request import StoredRequest
from sessions_app.encryption.sealed import check_readable
from sessions_app.models import ChatSession, Chunk

log = logging.getLogger(__name__)

#: progress of a stage is logged at every multiple of this percentage
LOGGED_PERCENT = 10
#: pictures up to this total size are not reduced before the processor does it: on a card that is hard to read, the
#: rounding of the processor's own filter decides what the model reads
WHOLE_PIXELS_OF_REQUEST = 2**22


class LocalSource:
    """Loads the model, and after a failure loads it again on every ``reload``."""

    def __init__(self) -> None:
        # A SimpleQueue and not an Event, because its ``put`` takes no lock that an interrupted thread may hold.
        self._reload_requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._logged = ("", 0)
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)

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
        self._reload_requests.put(None)

    def _run(self) -> None:
        while not self._load():
            self._reload_requests.get()
            while not self._reload_requests.empty():
                self._reload_requests.get()
            log.info("the model is loaded again")
        while True:
            self._reload_requests.get()
            log.info("the reload request is ignored: the model is loaded")

    def _load(self) -> bool:
        """Load the model. Returns whether that succeeded."""
        self._listener.engine_pending("")
        try:
            loaded, engine = start_engine(self._report)
        except EngineError as exc:
            log.error("the model could not be loaded: %s Fix this, then send SIGHUP or restart the worker.", exc)
            # Callers read this, and must see the name of the model and not a path.
            self._listener.engine_failed(str(exc).replace(settings.MODEL_REPO_ID, settings.SERVED_MODEL_NAME))
            return False
        except Exception:
            log.exception("the model could not be loaded")
            self._listener.engine_failed("an unexpected error; the log of the worker has the details")
            return False
        log.info(
            "the model %s is ready on %s, with room for %d sessions at once (%s) and %d tokens in the running batch",
            settings.SERVED_MODEL_NAME,
            loaded.device,
            engine.stats().max_batch_size - settings.RESERVED_SLOTS,
            "MAX_BATCH_SIZE" if settings.MAX_BATCH_SIZE else "by its memory; MAX_BATCH_SIZE sets another number",
            engine.stats().max_running_tokens,
        )
        self._listener.engine_ready(LocalEngine(engine, loaded))
        return True

    def _report(self, progress: Progress) -> None:
        step = (progress.stage, progress.percent // LOGGED_PERCENT)
        if step != self._logged:
            self._logged = step
            log.info("loading %s: %s", settings.SERVED_MODEL_NAME, progress)
        self._listener.engine_pending(str(progress))


class LocalEngine:
    """Sessions on the engine of this process."""

    def __init__(self, engine: Engine, loaded: LoadedModel) -> None:
        self._engine = engine
        self._fingerprint = {
            "revision": loaded.revision,
            "dtype": loaded.dtype,
            "quantization": _arithmetic_of(loaded),
            "video_frames": settings.MAX_VIDEO_FRAMES,
            "grammars": grammar.LIBRARY,
        }
        sizes = VisionSizes.of(loaded.processor) if loaded.has_media else None
        self._vision = ModelVision(sizes, engine.max_context_tokens) if sizes else None
        self._stopped = False

    @property
    def vision(self) -> ModelVision | None:
        return self._vision

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self._fingerprint

    @property
    def max_sessions(self) -> int:
        return self._engine.stats().max_batch_size - settings.RESERVED_SLOTS

    def submit(self, session: ChatSession) -> list[Handle]:
        return [self._engine.submit(request) for request in generation_requests(session, self._vision)]

    def stop(self, timeout_seconds: float) -> bool:
        if not self._stopped:
            self._stopped = True
            decoding_pool().stop()
        return self._engine.stop(timeout_seconds)

    @property
    def name(self) -> str:
        return "engine-model"

    def is_alive(self) -> bool:
        return self._engine.is_alive()

    def stats(self) -> EngineStats:
        return self._engine.stats()


def _arithmetic_of(loaded: LoadedModel) -> str:
    """How the weights were quantized: "8bit" is bitsandbytes on a GPU and our own on a CPU, with other roundings."""
    is_ours = loaded.quantization == "8bit" and loaded.device.type == "cpu"
    return "8bit-cpu" if is_ours else loaded.quantization


def generation_requests(session: ChatSession, vision: ModelVision | None) -> list[GenerationRequest]:
    """The stored request with its media decoded again from the stored bytes, and the committed tokens.

    There is one for each requested answer, including complete answers: the engine detects that they have ended.
    Raises ``RequestTooNew``; ``EngineError`` when the stored bytes are not those that were received, because attempts
    would then see different pictures; and ``EngineStopped`` when this process stops decoding or is too slow.
    """
    request = StoredRequest.from_dict(session.request)
    images, videos = _decoded_media(session, request, vision)
    committed = Chunk.objects.token_ids_by_choice(session.pk) if session.next_index > 1 else {}
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


def _decoded_media(
    session: ChatSession, request: StoredRequest, vision: ModelVision | None
) -> tuple[list[Image.Image], list[Video]]:
    if not _has_media(request.messages):
        return [], []
    stored = [(media.kind, media.data, media.sha256) for media in session.media.all()]
    for kind, data, digest in stored:
        check_readable(data)
        if digest and hashlib.sha256(data).hexdigest() != digest:
            raise EngineError(f"The stored {kind} of this request is not the one that was sent.")
    pictures = [_size_of(data) for kind, data, _ in stored if kind == "image"]
    if vision is not None:
        # The web process may not have checked this, because the model was still loading.
        tokens = sum(vision.sizes.image_tokens(width, height) for width, height in pictures)
        if tokens >= vision.context_tokens:
            raise PromptTooLong(tokens, vision.context_tokens)
    seen_sizes = vision.sizes if vision else None
    are_few = sum(width * height for width, height in pictures) <= WHOLE_PIXELS_OF_REQUEST
    image_sizes = None if are_few else seen_sizes
    try:
        images = [decode.decode_image(data, image_sizes) for kind, data, _ in stored if kind == "image"]
        videos = [decode.sample_video(data, seen_sizes) for kind, data, _ in stored if kind == "video"]
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
