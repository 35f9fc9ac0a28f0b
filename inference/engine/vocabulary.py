"""The bytes of each token id, and the few ids with a special meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from inference.engine.errors import LoadError

_TAGS = ("<think>", "</think>")
#: the tags around a tool call
CALL_TAGS = ("<tool_call>", "</tool_call>")
#: matches markup: one word in brackets
_TAG = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The tokens of a byte-level BPE tokenizer, as the detokenizer and the sampler need them."""

    #: the bytes of each id; empty for special tokens, which are never text
    token_bytes: tuple[bytes, ...]
    #: <think> and </think>; None in a tokenizer without them
    think_start: int | None
    think_end: int | None
    #: ids that represent a part of an image or video in a prompt; a generated one could not be prefilled again
    placeholders: tuple[int, ...]
    #: <tool_call> and </tool_call>; None in a tokenizer without them
    call_start: int | None = None
    call_end: int | None = None
    #: names of the tokens that are never text: the special ones and the two tags
    names: dict[int, str] = field(default_factory=dict)
    #: the tokenizer's entries for the tokens that only the chat template may write into a prompt
    controls: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a transformers tokenizer. Raises LoadError unless it is a byte-level one."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or "ByteLevel" not in type(backend.decoder).__name__:
            raise LoadError("The tokenizer is not a byte-level BPE, the only kind this engine decodes.")
        byte_of = _byte_of_character()
        added = tokenizer.added_tokens_decoder
        token_bytes = []
        for token_id, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
            if token_id in added:
                entry = added[token_id]
                token_bytes.append(b"" if entry.special else entry.content.encode())
            elif token is None:
                token_bytes.append(b"")
            else:
                token_bytes.append(bytes(byte_of[character] for character in token))
        ids = {entry.content: token_id for token_id, entry in added.items()}
        return cls(
            token_bytes=tuple(token_bytes),
            names={i: entry.content for i, entry in added.items() if entry.special or entry.content in _TAGS},
            think_start=ids.get(_TAGS[0]),
            think_end=ids.get(_TAGS[1]),
            call_start=ids.get(CALL_TAGS[0]),
            call_end=ids.get(CALL_TAGS[1]),
            placeholders=tuple(ids[t] for t in ("<|image_pad|>", "<|video_pad|>") if t in ids),
            controls={i: entry for i, entry in added.items() if _is_control(entry)},
        )


def _is_control(entry: Any) -> bool:
    """Whether an added token is markup, and not text that was added because it is frequent.

    Released models declare some of their markup as not special: <think>, <tool_call>, <|fim_prefix|>.
    """
    return bool(entry.special or _TAG.fullmatch(entry.content))


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character; this maps the characters back to bytes.

    Printable bytes are written as themselves, the others as the characters from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
