"""Whether a constraint can be enforced, found without a model. Runs where a crash harms nobody.

llguidance is quick, and recurses: a schema of two thousand definitions, each naming the next, overflows the stack of a
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

#: the worker has the system's default: 8 MiB, and 2 MiB where the system sets no limit
STACK_BYTES = 2**19
#: bytes of an answer that are tried: what is too complex mostly shows itself at once
TRIED_BYTES = 200
_END = 256
#: the token that a call begins with; the next is that of its end
_CALL = 257
_UNCHECKED = "It cannot be read."

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function whose arguments are to be held to their schema."""

    name: str
    schema: dict[str, Any]
    #: a schema that cannot be enforced is refused; else any object counts in its place
    is_strict: bool


def check(constraint: Constraint) -> tuple[Constraint, str]:
    """The constraint as the engine takes it, and why it cannot be enforced; "" if it can."""
    return _on_a_small_stack(lambda: _check(constraint)) or (constraint, _UNCHECKED)


def check_calls(functions: Sequence[Function], **options: Any) -> tuple[Constraint | None, str, str]:
    """The constraint of calls to these functions, else why it cannot be enforced and the function whose fault that is.

    ``options`` are those of ``calls_source``. Where all functions together are too much, the fault is none's: "".
    """
    return _on_a_small_stack(lambda: _check_calls(functions, options)) or (None, _UNCHECKED, "")


def _on_a_small_stack(work: Callable[[], T]) -> T | None:
    """The result, or None where the work has raised what it should not."""
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
    """llama.cpp's notation (GBNF) in Lark's; a grammar in Lark's stays as it is."""
    if constraint.kind != "grammar":
        return constraint
    try:
        return dataclasses.replace(constraint, source=any_to_lark(constraint.source))
    except Exception as error:  # the library raises what comes to hand
        raise InvalidConstraint(f"The grammar cannot be read: {str(error)[:200]}") from error


def _try_out(source: str) -> None:
    """Write the beginning of some answer byte by byte. Raises InvalidConstraint where that turns out too complex."""
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
    """A tokenizer with a token for each byte, and those of calls."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>", b"<call>", b"</call>")
    special_token_ids = (_END, _CALL, _CALL + 1)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
