"""Readers of pictures: a model of our own, or a server through ``POST /ktp-ocr/``. Both are thread-safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx
from django.conf import settings

from inference.backends.engine_config import engine_config
from inference.engine.errors import EngineError, EngineLost, EngineStopped
from inference.engine.types import Delta, GenerationRequest
from inference.engine_process.client import EngineProcess
from inference.errors import ApiError
from inference.media.images import decode_image
from inference.media.limits import media_limits
from ocr import card_image
from ocr.evaluation.results import ReaderAnswer, failed_answer
from ocr.extraction import stored_request
from ocr.reading import confidence
from ocr.reading.judging import judge_answer
from ocr.reading.problems import from_dict
from ocr.reading.schema import from_contract

#: seconds between two requests to a server whose model is still loading
POLL_SECONDS = 1.0
CONNECT_SECONDS = 10.0


class ReaderUnusable(Exception):
    """This reader cannot read any further pictures; the message says why."""


class Reader(Protocol):
    """Reads one picture after another."""

    #: description of the reader for the report
    name: str

    def read(self, data: bytes, file_name: str) -> ReaderAnswer:
        """The reading of one picture; a failure is returned as an answer. Raises ``ReaderUnusable``."""

    def close(self) -> None:
        """Release the model or the connections. Readings in progress get no answer."""


class EngineReader:
    """The configured model, loaded for this run, with the requests of ``POST /ktp-ocr/`` but without a database."""

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        """Load the model, which takes seconds to minutes. Raises ``ReaderUnusable``."""
        try:
            self._engine = EngineProcess(
                engine_config(), lambda progress: on_progress(str(progress)), hidden=settings.OWN_VARIABLES
            )
            facts = self._engine.load()
        except EngineError as exc:
            raise ReaderUnusable(str(exc)) from exc
        self.name = f"{settings.SERVED_MODEL_NAME}, loaded for this run ({facts.device}, {facts.dtype})"

    def read(self, data: bytes, file_name: str) -> ReaderAnswer:
        started = time.perf_counter()
        try:
            text, finish_reason, tokens = ask(self._engine, data)
        except (EngineStopped, EngineLost) as exc:
            raise ReaderUnusable(str(exc)) from exc
        except (ApiError, EngineError) as exc:
            return failed_answer(str(exc), seconds=time.perf_counter() - started)
        reading = judge_answer(text, finish_reason=finish_reason, tokens=tokens)
        return ReaderAnswer(reading.values, reading.problems, time.perf_counter() - started)

    def close(self) -> None:
        self._engine.stop()


def ask(engine: EngineProcess, data: bytes) -> tuple[str, str, list[confidence.Token]]:
    """The model's answer for one picture without its reasoning, its finish reason, and all its tokens.

    Raises ``ApiError``, ``EngineError``.
    """
    # A worker would get the prepared picture in encoded form and decode it, so this does the same.
    picture = decode_image(card_image.prepare(data, media_limits()).data, media_limits(), "image")
    asked = stored_request()
    request = GenerationRequest(
        messages=asked.messages, sampling=asked.sampling, images=[picture], constraint=asked.constraint
    )
    texts: list[str] = []
    tokens: list[confidence.Token] = []
    finish_reason = ""
    for item in engine.submit(request):
        if isinstance(item, Delta):
            texts.append(item.text)
            tokens += [
                confidence.Token(
                    told.chosen.raw or b"",
                    told.chosen.logprob,
                    tuple((other.raw or b"", other.logprob) for other in told.top),
                )
                for told in item.logprobs
            ]
        else:
            finish_reason = item.reason
    return "".join(texts), finish_reason, tokens


class HttpReader:
    """A server's ``POST /ktp-ocr/``. Every picture becomes a stored reading there."""

    def __init__(self, base_url: str, *, api_key: str, timeout_seconds: float, on_progress: Callable[[str], None]):
        """Wait for the server to load its model. Raises ``ReaderUnusable``."""
        self._base_url = base_url.rstrip("/")
        try:
            self._client = httpx.Client(
                base_url=self._base_url,
                headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
                timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
                # As many connections as there are threads.
                limits=httpx.Limits(max_connections=None),
            )
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise ReaderUnusable(f"{base_url} is no address of a server, or the API key is no plain text.") from exc
        self.name = f"{self._wait_for_model(on_progress)} at {self._base_url}"

    def read(self, data: bytes, file_name: str) -> ReaderAnswer:
        started = time.perf_counter()
        try:
            response = self._client.post("/ktp-ocr/", files={"image": (file_name, data)})
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise ReaderUnusable(f"{self._base_url} does not answer any more: {exc}.") from exc
        except httpx.HTTPError as exc:
            return failed_answer(f"{type(exc).__name__}: {exc}", seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        if response.status_code in (401, 403, 404, 405):
            # The server would refuse the next picture too.
            raise ReaderUnusable(f"{self._base_url} answers {response.status_code}: {_reason(response)}")
        if not response.is_success:
            return failed_answer(f"{response.status_code}: {_reason(response)}", seconds=seconds)
        return _from_body(_object(response), seconds)

    def close(self) -> None:
        self._client.close()

    def _wait_for_model(self, on_progress: Callable[[str], None]) -> str:
        told = ""
        while True:
            try:
                response = self._client.get("/health", timeout=CONNECT_SECONDS)
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise ReaderUnusable(f"No server answers at {self._base_url}: {exc}.") from exc
            health = _object(response)
            if "modelReady" not in health:
                raise ReaderUnusable(f"What answers at {self._base_url} is no server of this kind.")
            if health["modelReady"]:
                return str(health.get("modelId"))
            if health.get("error"):
                raise ReaderUnusable(f"The server at {self._base_url} has no model: {health['error']}")
            progress = str(health.get("progress") or "waiting for the server's model")
            if progress != told:
                on_progress(progress)
                told = progress
            time.sleep(POLL_SECONDS)


def _from_body(body: Mapping[str, Any], seconds: float) -> ReaderAnswer:
    meta = body.get("meta")
    if not isinstance(meta, Mapping):
        return failed_answer("The answer is not what POST /ktp-ocr/ gives.", seconds=seconds)
    problems = tuple(from_dict(problem) for problem in meta.get("problems", ()))
    if meta.get("state") != "read":
        return failed_answer(" ".join(problem.text.en for problem in problems), seconds=seconds)
    return ReaderAnswer(from_contract(body), problems, seconds)


def _object(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object in the body; empty if there is none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _reason(response: httpx.Response) -> str:
    error = _object(response).get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    return str(message or response.reason_phrase)
