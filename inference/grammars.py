"""Checks what a request wants its answer held to, before a session is opened for it."""

from __future__ import annotations

from django.conf import settings

from inference.engine import grammar_check
from inference.engine.types import Constraint
from inference.errors import InvalidMedia, InvalidRequest
from inference.media.decode import finished
from inference.media.decoding import decoding_pool


async def check(constraint: Constraint, *, param: str) -> Constraint:
    """The constraint as the engine takes it.

    Raises InvalidRequest, naming ``param``, for what cannot be enforced. A grammar can crash the process that compiles
    it, so this runs in the processes that decode pictures, within their limits; and Unavailable when they are busy.
    """
    try:
        known, problem = await finished(
            decoding_pool().submit(
                grammar_check.check,
                (constraint,),
                kind="grammar",
                param=param,
                pixels=0,
                cpu_seconds=settings.GRAMMAR_CHECK_TIMEOUT_SECONDS,
            )
        )
    except InvalidMedia as exc:
        problem = "Checking it takes too much time or memory, or it is nested too deeply. Send a simpler one."
        raise _refusal(problem, param) from exc
    if problem:
        raise _refusal(problem, param)
    return known


def _refusal(problem: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} cannot be enforced. {problem}", param=param, code="unsupported_constraint")
