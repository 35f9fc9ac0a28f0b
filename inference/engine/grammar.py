"""Enforces a grammar on an answer: which tokens may come next, and whether the answer is complete."""

from __future__ import annotations

import collections
import importlib.metadata
import json
import random
import secrets
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inference.engine.call_grammar import calls_grammar
from inference.engine.errors import InvalidConstraint
from inference.engine.types import Constraint

if TYPE_CHECKING:
    from inference.engine.vocabulary import Vocabulary

#: version of the grammar library; another one may allow other tokens in the same place
LIBRARY = f"llguidance {importlib.metadata.version('llguidance')}"
#: one blank, or a line break and an indentation, so that a model cannot fill its answer with white space for ever
WHITESPACE = r" |\n {0,40}"
JSON_OPTIONS: Any = {"whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False}
#: limits of one row: a few milliseconds per step, and 100 MB; a grammar that needs more fails without delaying others
LIMITS = LLParserLimits(
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    max_grammar_size=250_000,
    # Verbose messages would put the caller's grammar and the model's output into the log.
    verbose_errors=False,
)

#: number of compiled grammars in the cache; each takes some megabytes
KEPT_GRAMMARS = 16
#: tokens of the trial answer that is generated when a grammar is compiled
TRIED_TOKENS = 64


def library_grammar(constraint: Constraint) -> str:
    """The constraint in llguidance's own form. Raises InvalidConstraint if it cannot even be parsed."""
    match constraint.kind:
        case "json_object":
            return library_grammar(Constraint("json_schema", '{"type": "object"}'))
        case "json_schema":
            try:
                return LLMatcher.grammar_from_json_schema(constraint.source, overrides=JSON_OPTIONS)
            except ValueError as error:
                raise InvalidConstraint(f"The JSON schema cannot be read: {error}.") from error
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.source)
        case "choice":
            return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, json.loads(constraint.source))))
        case "grammar":
            return LLMatcher.grammar_from_lark(constraint.source)
        case "calls":
            raise InvalidConstraint("A grammar of tool calls needs the model's own tokens for their start and end.")


class Grammars:
    """Compiles constraints for one loaded model. Used by any number of threads."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, eos_token_ids: Sequence[int]) -> None:
        """Takes a second or two for a vocabulary of 150,000 tokens, and holds the interpreter lock meanwhile."""
        # Control tokens are not text: <think> inside a JSON string is spelled with ordinary tokens. The tokenizer would
        # find control tokens by name in the text of a grammar, so here they get names that no text contains.
        written = json.loads(tokenizer.backend_tokenizer.to_str())
        nameless = secrets.token_hex(16)
        for token in written["added_tokens"]:
            if token["special"] or token["id"] in vocabulary.controls:
                token |= {"special": True, "content": f"{nameless}{token['id']}"}
        written["truncation"] = written["padding"] = None
        self._tokenizer = LLTokenizer(json.dumps(written), eos_token=list(eos_token_ids))
        self._vocabulary = vocabulary
        #: compiled grammars in their initial state, most recently used last
        self._compiled: collections.OrderedDict[Constraint, LLMatcher] = collections.OrderedDict()
        self._lock = threading.Lock()
        tokens = -(-self._tokenizer.vocab_size // 32) * 32
        allowed = np.arange(tokens) < self._tokenizer.vocab_size
        allowed[list(eos_token_ids)] = False
        self._all_but_ends = np.packbits(allowed, bitorder="little")

    def has(self, constraint: Constraint) -> bool:
        """Whether the grammar is in the cache, so that ``matcher`` need not compile it."""
        with self._lock:
            return constraint in self._compiled

    def matcher(self, constraint: Constraint, *, in_thought: bool = False, may_think: bool = False) -> Matcher:
        """A matcher for one answer, in its initial state. Raises InvalidConstraint.

        ``in_thought`` says that the prompt has opened the reasoning, ``may_think`` that the model may open it itself.
        The constraint applies to the answer after the reasoning.
        """
        with self._lock:
            compiled = self._compiled.pop(constraint, None)
        if compiled is None:
            compiled = self._compile(constraint)
        with self._lock:
            self._compiled[constraint] = compiled
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        matcher = compiled.deep_copy()
        return Matcher(matcher, self._vocabulary, self._all_but_ends, in_thought=in_thought, may_think=may_think)

    def _compile(self, constraint: Constraint) -> LLMatcher:
        """Compile, and generate a trial answer: every copy shares what the matcher computes and caches on the way."""
        grammar = self._calls(constraint) if constraint.kind == "calls" else library_grammar(constraint)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise InvalidConstraint.because(matcher.get_error())
        tried = matcher.deep_copy()
        chance = random.Random(0)  # noqa: S311  (no secret)
        for _ in range(TRIED_TOKENS):
            bits = np.frombuffer(tried.compute_bitmask(), dtype=np.uint8)
            allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
            if tried.is_stopped() or not len(allowed) or not tried.consume_token(int(chance.choice(allowed))):
                break
        # A matcher in an error state cannot be reset.
        return tried if not tried.is_error() and tried.reset() else matcher

    def _calls(self, constraint: Constraint) -> str:
        begin, end = self._vocabulary.call_start, self._vocabulary.call_end
        if begin is None or end is None:
            raise InvalidConstraint("This model has no start and end tokens for tool calls.")
        return LLMatcher.grammar_from_lark(calls_grammar(constraint.source, JSON_OPTIONS, tags=(begin, end)))


class MaskRow:
    """The bits of one row's mask, uint8 and contiguous, and their address, which takes longer to find than to use."""

    def __init__(self, bits: np.ndarray) -> None:
        self.bits = bits
        self.address: int = bits.ctypes.data


class Matcher:
    """The position of one answer in its grammar. What it allows after k tokens depends on those k tokens alone."""

    def __init__(
        self,
        matcher: LLMatcher,
        vocabulary: Vocabulary,
        all_but_ends: np.ndarray,
        *,
        in_thought: bool,
        may_think: bool,
    ) -> None:
        self._matcher = matcher
        self._think_start = vocabulary.think_start if may_think else None
        self._think_end = vocabulary.think_end
        self._all_but_ends = all_but_ends
        self._in_thought = in_thought
        self._at_start = True

    @property
    def is_complete(self) -> bool:
        """Whether the answer is complete and no token can follow."""
        return not self._in_thought and self._matcher.is_stopped() and not self._matcher.is_error()

    def take(self, token: int) -> None:
        """Advance by the next token. Raises InvalidConstraint when the grammar does not allow it."""
        if self._in_thought:
            self._in_thought = token != self._think_end
        elif self._at_start and token == self._think_start:
            self._in_thought = True
        elif not self._matcher.consume_token(token):
            raise InvalidConstraint.because(self._matcher.get_error())
        self._at_start = False

    def check(self) -> None:
        """Raises InvalidConstraint when the grammar has become too complex, so that only the end was allowed."""
        if self._matcher.is_error():
            raise InvalidConstraint.because(self._matcher.get_error())

    def fill(self, row: MaskRow) -> None:
        """Set the bits of the tokens that may come next in ``row``, which has at least one for each token.

        A grammar that has become too complex allows only the end of the answer; ``check`` raises then.
        """
        size = len(self._all_but_ends)
        if self._in_thought:
            # The reasoning is free, but it must not end the answer.
            row.bits[:size] = self._all_but_ends
            return
        self._matcher.unsafe_compute_mask_ptr(row.address, size)
        if self._at_start and self._think_start is not None:
            row.bits[self._think_start // 8] |= 1 << self._think_start % 8
