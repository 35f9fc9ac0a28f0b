"""The model of this process: loaded in a thread of its own, again when somebody asks, and run by the engine."""

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

from inference.engine.engine import Engine, EngineStats
from inference.engine.errors import EngineError
from inference.engine.handle import Handle
from inference.engine.loading import LoadedModel
from inference.engine.progress import Progress
from inference.engine.types import GenerationRequest, Sampling, Video
from inference.engine_source import SourceListener
from inference.engine_start import start_engine
from inference.generations import choices_of
from inference.media.images import decode_image
from inference.media.limits import media_limits
from inference.media.videos import sample_video
from sessions_app.models import ChatSession, Chunk

log = logging.getLogger(__name__)

#: a stage's progress is a line of the log at every so many percent
LOGGED_PERCENT = 10


class LocalSource:
    """Loads the model, and after a failure again at every ``try_again``."""

    def __init__(self) -> None:
        # This queue and no event: putting into it takes no lock that an interrupted thread may hold.
        self._wishes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._logged = ("", 0)

    def start(self, listener: SourceListener) -> None:
        self._listener = listener
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()

    def try_again(self) -> None:
        self._wishes.put(None)

    def _run(self) -> None:
        while not self._load():
            self._wishes.get()
            while not self._wishes.empty():
                self._wishes.get()
            log.info("the model is loaded again")
        while True:
            self._wishes.get()
            log.info("asked to load the model, which is there: nothing to do")

    def _load(self) -> bool:
        """Whether there is an engine now."""
        self._listener.engine_pending("")
        try:
            loaded, engine = start_engine(self._tell)
        except EngineError as exc:
            log.error("the model could not be loaded: %s Mend it, then send SIGHUP or start the worker again.", exc)
            # Callers read this: they know the model by its name, and have no business with a path.
            self._listener.engine_failed(str(exc).replace(settings.MODEL_REPO_ID, settings.SERVED_MODEL_NAME))
            return False
        except Exception:
            log.exception("the model could not be loaded")
            self._listener.engine_failed("an unexpected error; the log of the worker has the details")
            return False
        log.info(
            "the model %s is ready on %s, with room for %d tokens in the running batch",
            settings.SERVED_MODEL_NAME,
            loaded.device,
            engine.stats().max_running_tokens,
        )
        self._listener.engine_ready(LocalEngine(engine, loaded))
        return True

    def _tell(self, progress: Progress) -> None:
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
            "quantization": loaded.quantization,
            "video_frames": settings.MAX_VIDEO_FRAMES,
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self._fingerprint

    def submit(self, session: ChatSession) -> list[Handle]:
        return [self._engine.submit(request) for request in generation_requests(session)]

    def stop(self, timeout_seconds: float) -> bool:
        return self._engine.stop(timeout_seconds)

    def stats(self) -> EngineStats:
        return self._engine.stats()


def generation_requests(session: ChatSession) -> list[GenerationRequest]:
    """The stored request with its media decoded again from the stored bytes, and the tokens that are committed.

    One for each answer that the session wants. An answer that is complete is asked for too: the engine sees that it has
    ended. Raises EngineError when the bytes are not those that came: another attempt would see another picture.
    """
    images: list[Image.Image] = []
    videos: list[Video] = []
    for media in session.media.all() if _has_media(session.request["messages"]) else ():
        data = bytes(media.data)
        if hashlib.sha256(data).hexdigest() != media.sha256:
            raise EngineError(f"The {media.kind} that was stored with this request is not the one that was sent.")
        if media.kind == "image":
            images.append(decode_image(data, media_limits(), param=None))
        else:
            videos.append(sample_video(data, media_limits(), param=None))
    sampling = Sampling.from_json(session.request["sampling"])
    committed = Chunk.objects.token_ids_by_choice(session.pk) if session.next_index > 1 else {}
    return [
        GenerationRequest(
            messages=session.request["messages"],
            sampling=dataclasses.replace(sampling, seed=sampling.seed + choice),
            images=images,
            videos=videos,
            resume_ids=committed.get(choice, ()),
        )
        for choice in range(choices_of(session.request))
    ]


def _has_media(messages: Sequence[dict[str, Any]]) -> bool:
    contents = (message["content"] for message in messages)
    return any(part["type"] != "text" for content in contents if not isinstance(content, str) for part in content)
