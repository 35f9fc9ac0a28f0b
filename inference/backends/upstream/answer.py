"""Turn the chunks of one upstream stream into deltas and a final Finish, without the text that is already committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inference.backends.upstream.call import AnswerSoFar
from inference.backends.upstream.errors import UpstreamError
from inference.backends.upstream.tool_calls import ToolCalls
from inference.backends.upstream.wire import choices_in, logprobs_in, object_in, reason_in, text_in
from inference.engine.tool_calls import CallPiece
from inference.engine.types import Delta, Finish, FinishReason, TokenLogprobs
from sessions_app.deltas import TEXT_DELTAS, TextKind
from sessions_app.storable import UNKNOWN_TOKEN, WholeCharacters, storable_count

#: maximum tokens of one piece, whatever the upstream counts, because the log has an id for each
MAX_TOKENS_OF_PIECE = 4096


class AnswerReader:
    """One stream, read chunk by chunk."""

    def __init__(
        self,
        so_far: AnswerSoFar,
        characters: WholeCharacters,
        *,
        repeats: bool,
        earlier_tokens: int,
        alternatives: int | None,
    ) -> None:
        """``characters`` holds the state of the text at the start of the stream.

        ``repeats``: the stream begins with everything received before, and must equal it. ``earlier_tokens`` of the
        answer are counted as prompt tokens in its usage. ``alternatives`` is how many are wanted for each token; None
        means no logprobs.
        """
        self._so_far = so_far
        self._characters = characters
        self._calls = ToolCalls(so_far.calls, repeats=repeats)
        self._repeated = dict(so_far.texts) if repeats else dict.fromkeys(TEXT_DELTAS, "")
        self._before = earlier_tokens
        self._alternatives = alternatives
        self._prompt_tokens = 0
        self._completion_tokens: int | None = None
        self.reason: FinishReason | None = None
        self.reasoning_tokens = 0
        self._cached_tokens = 0

    def read(self, chunk: Mapping[str, Any]) -> list[Delta]:
        """Raises UpstreamError when the stream differs from the committed text, or the upstream has cancelled it."""
        self._note_usage(chunk.get("usage"))
        if chunk.get("session_state") == "cancelled":
            raise UpstreamError("The answer was cancelled at the upstream server.", code="upstream_cancelled")
        found = []
        for choice in choices_in(chunk):
            delta = object_in(choice.get("delta"))
            texts: dict[TextKind, str] = {
                # Servers use either name; one may use both for the same text.
                "reasoning": text_in(delta.get("reasoning_content")) or text_in(delta.get("reasoning")),
                "refusal": text_in(delta.get("refusal")),
                "text": text_in(delta.get("content")),
            }
            whole = [piece for kind in TEXT_DELTAS for piece in self._characters.add(kind, texts[kind])]
            wanted = self._alternatives is not None
            logprobs = logprobs_in(choice, alternatives=self._alternatives or 0) if wanted else ()
            was_repeating = self._calls.is_repeating
            found += self._new(whole, logprobs, self._calls.read(delta), repeats_calls=was_repeating)
            self.reason = reason_in(choice) or self.reason
        return found

    def end(self) -> list[Delta]:
        """What was held back, after the last chunk.

        Raises UpstreamError when the stream ends before all of the committed text was repeated.
        """
        found = self._new(self._characters.end(), ())
        self._calls.end()
        if any(self._repeated.values()):
            raise UpstreamError.cannot_continue("its answer now differs from the part that was already sent")
        return found

    def finish(self) -> Finish:
        generated = self._completion_tokens
        prompt_tokens = max(0, self._prompt_tokens - self._before)
        return Finish(
            self._reason(),
            prompt_tokens,
            self._so_far.tokens if generated is None else self._before + generated,
            self.reasoning_tokens,
            min(self._cached_tokens, prompt_tokens),
        )

    def _reason(self) -> FinishReason:
        """As here: an answer with calls has ended because of them, and one without has not, whatever a server says."""
        reason = self.reason or "stop"
        if reason in ("stop", "tool_calls"):
            return "tool_calls" if self._so_far.calls else "stop"
        return reason

    def _new(
        self,
        pieces: Iterable[tuple[TextKind, str]],
        logprobs: tuple[TokenLogprobs, ...],
        calls: Sequence[CallPiece] = (),
        *,
        repeats_calls: bool = False,
    ) -> list[Delta]:
        """What these pieces add to the answer, as one delta if they add anything."""
        is_repeat = repeats_calls or any(self._repeated.values())
        texts = dict.fromkeys(TEXT_DELTAS, "")
        for kind, text in pieces:
            texts[kind] += self._after_repeated(kind, text)
        # The last tokens may not complete a character, but still have logprobs.
        if not (any(texts.values()) or calls or (logprobs and not is_repeat)):
            return []
        tokens = self._count_tokens()
        for kind, text in texts.items():
            self._so_far.texts[kind] += text
        ids = (UNKNOWN_TOKEN,) * tokens
        return [Delta(ids, texts["text"], texts["reasoning"], logprobs, texts["refusal"], tuple(calls))]

    def _after_repeated(self, kind: TextKind, text: str) -> str:
        repeated = self._repeated[kind]
        if not repeated:
            return text
        length = min(len(repeated), len(text))
        if text[:length] != repeated[:length]:
            raise UpstreamError.cannot_continue("its answer now differs from the part that was already sent")
        self._repeated[kind] = repeated[length:]
        return text[length:]

    def _count_tokens(self) -> int:
        told = self._completion_tokens
        tokens = 1 if told is None else max(0, self._before + told - self._so_far.tokens)
        tokens = min(tokens, MAX_TOKENS_OF_PIECE)
        self._so_far.tokens += tokens
        return tokens

    def _note_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt_tokens = storable_count(usage.get("prompt_tokens"))
        self._prompt_tokens = self._prompt_tokens if prompt_tokens is None else prompt_tokens
        completion_tokens = storable_count(usage.get("completion_tokens"))
        self._completion_tokens = self._completion_tokens if completion_tokens is None else completion_tokens
        details = object_in(usage.get("completion_tokens_details"))
        self.reasoning_tokens = storable_count(details.get("reasoning_tokens")) or self.reasoning_tokens
        details = object_in(usage.get("prompt_tokens_details"))
        self._cached_tokens = storable_count(details.get("cached_tokens")) or self._cached_tokens
