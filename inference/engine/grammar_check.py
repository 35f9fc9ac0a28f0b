"""Whether a constraint can be enforced, found without a model. Runs where a crash harms nobody.

llguidance is quick, and recurses: a schema of two thousand definitions, each naming the next, overflows the stack of a
thread and ends its process. The stack here is a fraction of that of the worker that will compile the grammar, so what
passes here passes there.
"""

from __future__ import annotations

import dataclasses
import random
import threading

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance import TokenizerWrapper as Wrapper
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from inference.engine.errors import InvalidConstraint
from inference.engine.grammar import LIMITS, library_grammar
from inference.engine.types import Constraint

#: the worker has the system's default: 8 MiB, and 2 MiB where the system sets no limit
STACK_BYTES = 2**19
#: bytes of an answer that are tried: what is too complex mostly shows itself at once
TRIED_BYTES = 200
_END = 256


def check(constraint: Constraint) -> tuple[Constraint, str]:
    """The constraint as the engine takes it, and why it cannot be enforced; "" if it can."""
    outcome: list[tuple[Constraint, str]] = []
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=lambda: outcome.append(_check(constraint)), name="grammar-check", daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return outcome[0]


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


def _in_lark(constraint: Constraint) -> Constraint:
    """llama.cpp's notation (GBNF) in Lark's; a grammar in Lark's stays as it is."""
    if constraint.kind != "grammar":
        return constraint
    try:
        return dataclasses.replace(constraint, source=any_to_lark(constraint.source))
    except (GbnfToLarkError, ValueError, LookupError, AssertionError, RecursionError) as error:
        raise InvalidConstraint(f"The grammar cannot be read: {str(error)[:200]}") from error


def _try_out(source: str) -> None:
    """Write the beginning of some answer byte by byte. Raises InvalidConstraint where that turns out too complex."""
    matcher = LLMatcher(LLTokenizer(Wrapper(_Bytes())), source, log_level=0, limits=LIMITS)
    chance = random.Random(0)  # noqa: S311  (no secret)
    for _ in range(TRIED_BYTES):
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:_END])
        if matcher.is_error():
            raise InvalidConstraint.because(matcher.get_error())
        if matcher.is_stopped() or not len(allowed):
            return
        matcher.consume_token(int(chance.choice(allowed)))


class _Bytes:
    """A tokenizer with a token for each byte."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (_END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
