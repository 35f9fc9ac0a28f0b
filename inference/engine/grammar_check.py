"""Checks without a model whether a constraint can be enforced. Runs in a process that may crash without harm.

llguidance recurses: a schema of two thousand definitions, each naming the next, overflows the stack of a
thread and ends its process. The stack here is a fraction of that of the worker that will compile the grammar, so what
passes here passes there.
"""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance import TokenizerWrapper as Wrapper
from llguidance.gbnf_to_lark import any_to_lark

from inference.engine.call_grammar import ANY_OBJECT, calls_grammar, calls_source
from inference.engine.errors import InvalidConstraint
from inference.engine.grammar import JSON_OPTIONS, LIMITS, library_grammar
from inference.engine.types import Constraint

#: stack of the check; the worker has the system's default of 8 MiB, or 2 MiB if the system sets no limit
STACK_BYTES = 2**19
#: bytes of the trial answer; most grammars that are too complex fail near the beginning
TRIED_BYTES = 200
_END = 256
#: the token that begins a call; the next id is the token that ends it
_CALL = 257
_UNCHECKED = "It cannot be read."

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function, and the schema to enforce on its arguments."""

    name: str
    schema: dict[str, Any]
    #: whether a schema that cannot be enforced is refused; otherwise any object is allowed instead
    is_strict: bool


def check(constraint: Constraint) -> tuple[Constraint, str]:
    """The constraint as the engine takes it, and the reason why it cannot be enforced; "" if it can."""
    return _on_a_small_stack(lambda: _check(constraint)) or (constraint, _UNCHECKED)


def check_calls(functions: Sequence[Function], **options: Any) -> tuple[Constraint | None, str, str]:
    """(the constraint for calls of these functions, "", ""); if there is none, (None, reason, name of the function).

    ``options`` are those of ``calls_source``. The name is "" if only all functions together are too much.
    """
    return _on_a_small_stack(lambda: _check_calls(functions, options)) or (None, _UNCHECKED, "")


def _on_a_small_stack(work: Callable[[], T]) -> T | None:
    """The result of the work, or None if it raised an unexpected exception."""
    outcome: list[T] = []
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=lambda: outcome.append(work()), name="grammar-check", daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return outcome[0] if outcome else None


def _check(constraint: Constraint) -> tuple[Constraint, str]:
    try:
        constraint = _in_lark(constraint)
        source = library_grammar(constraint)
        is_wrong, messages = LLMatcher.validate_grammar_with_warnings(source, limits=LIMITS)
        if is_wrong:
            raise InvalidConstraint.because(messages[0])
        if any("no tokenizer" in message for message in messages):
            raise InvalidConstraint("A grammar cannot name special tokens.")
        _try_out(source)
    except InvalidConstraint as error:
        return constraint, str(error)
    except MemoryError:
        return constraint, "It takes too much memory."
    return constraint, ""


def _check_calls(functions: Sequence[Function], options: dict[str, Any]) -> tuple[Constraint | None, str, str]:
    schemas: dict[str, dict[str, Any]] = {}
    for function in functions:
        schemas[function.name] = function.schema
        if function.schema != ANY_OBJECT:
            _, problem = _check(Constraint("json_schema", json.dumps(function.schema)))
            if problem and function.is_strict:
                return None, problem, function.name
            if problem:
                schemas[function.name] = ANY_OBJECT
    constraint = Constraint("calls", calls_source(schemas, **options))
    try:
        tags = (_CALL, _CALL + 1)
        _try_out(LLMatcher.grammar_from_lark(calls_grammar(constraint.source, JSON_OPTIONS, tags=tags)))
    except InvalidConstraint as error:
        return None, str(error), ""
    return constraint, "", ""


def _in_lark(constraint: Constraint) -> Constraint:
    """Convert llama.cpp's notation (GBNF) to Lark's; a grammar in Lark's notation stays unchanged."""
    if constraint.kind != "grammar":
        return constraint
    try:
        return dataclasses.replace(constraint, source=any_to_lark(constraint.source))
    except Exception as error:  # the library raises exceptions of any kind
        raise InvalidConstraint(f"The grammar cannot be read: {str(error)[:200]}") from error


def _try_out(source: str) -> None:
    """Generate the beginning of a trial answer byte by byte. Raises InvalidConstraint if that is too complex."""
    matcher = LLMatcher(LLTokenizer(Wrapper(_Bytes())), source, log_level=0, limits=LIMITS)
    chance = random.Random(0)  # noqa: S311  (no secret)
    for _ in range(TRIED_BYTES):
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.is_error():
            raise InvalidConstraint.because(matcher.get_error())
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: _CALL + 2])
        allowed = allowed[allowed != _END]
        if matcher.is_stopped() or not len(allowed):
            return
        matcher.consume_token(int(chance.choice(allowed)))


class _Bytes:
    """A tokenizer with a token for each byte, and the tokens of calls."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>", b"<call>", b"</call>")
    special_token_ids = (_END, _CALL, _CALL + 1)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
