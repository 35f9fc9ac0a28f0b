"""Checks the constraint of a request before a session is opened for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from django.conf import settings

from inference.engine import grammar_check
from inference.engine.grammar_check import Function
from inference.engine.types import Constraint
from inference.errors import InvalidMedia, InvalidRequest
from inference.media.decode import finished
from inference.media.decoding import decoding_pool

T = TypeVar("T")


async def check(constraint: Constraint, *, param: str) -> Constraint:
    """The constraint as the engine takes it.

    Raises InvalidRequest, naming ``param``, for what cannot be enforced. A grammar can crash the process that compiles
    it, so this runs in the processes that decode pictures, within their limits; and Unavailable when they are busy.
    """
    known, problem = await _in_process(grammar_check.check, constraint, param=param)
    if problem:
        raise _refusal(problem, param)
    return known


async def check_calls(functions: Sequence[Function], places: Mapping[str, str], **options: Any) -> Constraint:
    """Like ``check``, for calls of these functions. ``places`` maps them to the parameters that a refusal names."""
    work = functools.partial(grammar_check.check_calls, **options)
    constraint, problem, name = await _in_process(work, functions, param="tools", is_large=True)
    if constraint is None:
        raise _refusal(problem, places.get(name, "tools"))
    return constraint


async def _in_process(work: Callable[..., T], *args: Any, param: str, is_large: bool = False) -> T:
    try:
        return await finished(
            decoding_pool().submit(
                work,
                args,
                kind="grammar",
                param=param,
                pixels=0,
                is_large=is_large,
                cpu_seconds=settings.GRAMMAR_CHECK_TIMEOUT_SECONDS,
            )
        )
    except InvalidMedia as exc:
        problem = "Checking it takes too much time or memory, or it is nested too deeply. Send a simpler one."
        raise _refusal(problem, param) from exc


def _refusal(problem: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} cannot be enforced. {problem}", param=param, code="unsupported_constraint")
