"""Which model the upstream has, and how it can resume an answer that was interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx
from django.conf import settings

from inference.backends.upstream.body import read_body
from inference.backends.upstream.errors import KEY_REFUSED, interrupted_by
from inference.backends.upstream.wire import NotReadable, object_in, parsed

#: session: another Sambung server, which keeps the stream under a session id. prefix: it continues an assistant message
#: that it is given. none: it can do neither.
Resume = Literal["session", "prefix", "none"]
#: ``owned_by`` in the upstream's list of models → how it resumes
RESUME_OF: dict[str, Resume] = {"sambung": "session", "vllm": "prefix", "sglang": "prefix"}
#: ``owned_by`` → the name by which it reads the reasoning of earlier turns
REASONING_NAME_OF = {"sambung": "reasoning_content", "vllm": "reasoning", "sglang": "reasoning_content"}
#: for all others, of which some read the one, some the other, and some refuse both
REASONING_NAMES = ("reasoning_content", "reasoning")
UNREADABLE = "is no OpenAI-compatible one: its list of models cannot be read"
MAX_NAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class Target:
    model: str
    resume: Resume
    #: by which names it gets the reasoning of earlier turns
    reasoning_names: tuple[str, ...] = REASONING_NAMES


class NotReady(Exception):
    """Why the upstream cannot be used, as a predicate of "the upstream server"; may be shown to callers."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        #: waiting will not help: an operator has to fix something
        self.for_good = for_good


async def find_target(client: httpx.AsyncClient) -> Target:
    """Fetch the list of models, and find the target in it. Raises NotReady."""
    try:
        async with client.stream("GET", "models", timeout=settings.UPSTREAM_CONNECT_SECONDS) as response:
            body = await read_body(response)
    except httpx.HTTPError as exc:
        raise NotReady(interrupted_by(exc).reason) from exc
    if response.status_code in (401, 403):
        raise NotReady(KEY_REFUSED.removeprefix("The upstream server ").rstrip("."), for_good=True)
    if response.status_code != httpx.codes.OK:
        missing = response.status_code == httpx.codes.NOT_FOUND
        raise NotReady(f"answers the request for its models with HTTP {response.status_code}", for_good=missing)
    return _chosen(body)


def _chosen(body: bytes) -> Target:
    try:
        listed = object_in(parsed(body))["data"]
    except (NotReadable, KeyError) as exc:
        raise NotReady(UNREADABLE, for_good=True) from exc
    if not isinstance(listed, list):
        raise NotReady(UNREADABLE, for_good=True)
    models = [model for model in map(object_in, listed) if _is_name(model.get("id"))]
    named = [model for model in models if settings.UPSTREAM_MODEL in ("", model["id"])]
    if not named:
        raise NotReady("does not serve the configured model", for_good=True)
    owner = str(named[0].get("owned_by")).lower()
    told: Resume = RESUME_OF.get(owner, "none")
    # A system check has validated the setting.
    resume = told if settings.UPSTREAM_RESUME == "auto" else cast("Resume", settings.UPSTREAM_RESUME)
    names = (REASONING_NAME_OF[owner],) if owner in REASONING_NAME_OF else REASONING_NAMES
    return Target(named[0]["id"], resume, names)


def _is_name(value: Any) -> bool:
    """Whether it is a name that can be logged and stored."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable()
