from __future__ import annotations

import random
from typing import Any

import pytest

from inference.engine.detokenizer import Decoded, Detokenizer
from inference.engine.vocabulary import Vocabulary

EMOJI = "😀".encode()
THINK, END_THINK, SPECIAL = 300, 301, 302


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Token i below 256 is byte i; 256 … 299 are whole strings; then the tags and a special token."""
    strings = [b"hello", b" world", b"stop", b"ab", b"abc", b"\n\n", b"STO", b"P now"]
    strings += [b""] * (44 - len(strings))
    tokens = [bytes([i]) for i in range(256)] + strings + [b"<think>", b"</think>", b""]
    return Vocabulary(tuple(tokens), think_start=THINK, think_end=END_THINK, placeholders=())


def ids_of(*parts: str | bytes | int) -> list[int]:
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        else:
            ids.extend(part.encode() if isinstance(part, str) else part)
    return ids


def run(detokenizer: Detokenizer, ids: list[int]) -> list[Decoded]:
    pieces = []
    for token_id in ids:
        pieces.append(detokenizer.feed(token_id))
        if detokenizer.stopped:
            return pieces
    return [*pieces, detokenizer.flush()]


def joined(pieces: list[Decoded]) -> tuple[str, str]:
    return "".join(p.text for p in pieces), "".join(p.reasoning for p in pieces)


@pytest.mark.parametrize(
    ("ids", "options", "text", "reasoning"),
    [
        pytest.param(ids_of(256, 257), {}, "hello world", "", id="plain"),
        pytest.param(ids_of(EMOJI), {}, "😀", "", id="emoji over four tokens"),
        pytest.param(ids_of("a", EMOJI[:2]), {}, "a\ufffd", "", id="incomplete character at the end"),
        pytest.param(ids_of("a", EMOJI[:2], "b"), {}, "a\ufffdb", "", id="incomplete character in the middle"),
        pytest.param(ids_of(b"a\xff\xfeb"), {}, "a\ufffd\ufffdb", "", id="bytes that are no character"),
        pytest.param(ids_of("a", 0, "b"), {}, "a\ufffdb", "", id="NUL"),
        pytest.param(ids_of("a", SPECIAL, "b", 9999), {}, "ab", "", id="special and unknown tokens are no text"),
        pytest.param(ids_of(EMOJI[:2], SPECIAL, EMOJI[2:]), {}, "😀", "", id="special token inside a character"),
        pytest.param(ids_of("ab", 258, "c"), {"stop": ["stop"]}, "ab", "", id="stop string in one token"),
        pytest.param(ids_of("one STO", "P now"), {"stop": ["STOP"]}, "one ", "", id="stop string over tokens"),
        pytest.param(ids_of("x", 262, 263), {"stop": ["STOP"]}, "x", "", id="stop string that ends inside a token"),
        pytest.param(ids_of("one STO"), {"stop": ["STOP"]}, "one STO", "", id="only the beginning of a stop string"),
        pytest.param(ids_of("STSTOP"), {"stop": ["STOP"]}, "ST", "", id="stop string after a false beginning"),
        pytest.param(ids_of("xabcy"), {"stop": ["bc", "abc"]}, "x", "", id="earlier of two that end together"),
        pytest.param(ids_of("xaby"), {"stop": ["abc", "b"]}, "xa", "", id="shorter one inside a longer one"),
        pytest.param(ids_of("a😀b"), {"stop": ["😀"]}, "a", "", id="stop string of one character over tokens"),
        pytest.param(ids_of("a.b.c"), {"stop": ["."], "min_tokens": 3}, "a.b", "", id="stop before min_tokens"),
        pytest.param(ids_of("abc"), {"stop": [""]}, "abc", "", id="empty stop string"),
        pytest.param(ids_of(THINK, "hm", END_THINK, 261, "ok\n\n"), {}, "ok\n\n", "hm", id="reasoning"),
        pytest.param(
            ids_of("\nhm", END_THINK, "\n", "\n", "ok"), {"in_reasoning": True}, "ok", "hm", id="opened by prompt"
        ),
        pytest.param(ids_of("hm"), {"in_reasoning": True}, "", "hm", id="reasoning that never closes"),
        pytest.param(ids_of("a", THINK, "b", END_THINK, "c"), {}, "ac", "b", id="reasoning in the middle"),
        pytest.param(ids_of("ok", END_THINK, "b"), {}, "okb", "", id="closing tag alone"),
        pytest.param(
            ids_of("stop", END_THINK, "a stop b"),
            {"in_reasoning": True, "stop": ["stop"]},
            "a ",
            "stop",
            id="stop in reasoning",
        ),
        pytest.param(
            ids_of(EMOJI[:3], END_THINK, "a"), {"in_reasoning": True}, "a", "\ufffd", id="character cut by a tag"
        ),
    ],
)
def test_text_and_reasoning_of_a_sequence(
    vocabulary: Vocabulary, ids: list[int], options: dict[str, Any], text: str, reasoning: str
) -> None:
    assert joined(run(Detokenizer(vocabulary, **options), ids)) == (text, reasoning)


def test_no_replacement_character_is_given_out_for_a_character_that_is_still_coming(vocabulary: Vocabulary) -> None:
    detokenizer = Detokenizer(vocabulary)
    assert [detokenizer.feed(byte).text for byte in EMOJI] == ["", "", "", "😀"]


def test_text_that_can_be_no_stop_string_any_more_is_given_out_at_once(vocabulary: Vocabulary) -> None:
    detokenizer = Detokenizer(vocabulary, stop=["STOP"])
    assert [detokenizer.feed(byte).text for byte in b"aSTx"] == ["a", "", "", "STx"]


def test_a_vocabulary_without_think_tags_has_no_reasoning(vocabulary: Vocabulary) -> None:
    plain = Vocabulary(vocabulary.token_bytes, think_start=None, think_end=None, placeholders=())
    assert joined(run(Detokenizer(plain), ids_of(THINK, "a", END_THINK, "b"))) == ("<think>a</think>b", "")


def test_reasoning_tokens_are_counted_with_their_tags(vocabulary: Vocabulary) -> None:
    detokenizer = Detokenizer(vocabulary)
    run(detokenizer, ids_of(THINK, "abc", END_THINK, "de"))
    assert (detokenizer.tokens, detokenizer.reasoning_tokens) == (7, 5)


def test_what_is_given_out_depends_on_the_tokens_so_far_alone(vocabulary: Vocabulary) -> None:
    generator = random.Random(5)
    for _ in range(50):
        ids = generator.choices([*b"STOPab\n", *EMOJI, 256, 258, 262, THINK, END_THINK, SPECIAL], k=40)
        options: dict[str, Any] = {"stop": ["STOP", "ab\n"], "in_reasoning": generator.random() < 0.5}
        whole = run(Detokenizer(vocabulary, **options), ids)
        for cut in range(len(ids)):
            replayed = Detokenizer(vocabulary, **options)
            assert run(replayed, ids[:cut])[:cut] == whole[:cut]
            again = Detokenizer(vocabulary, **options)
            for token_id in ids[:cut]:
                again.feed(token_id)
                if again.stopped:
                    break
            else:
                assert run(again, ids[cut:]) == whole[cut:]


def test_random_tokens_decode_as_the_tokenizer_decodes_them(loaded: Any) -> None:
    generator = random.Random(7)
    vocabulary = loaded.vocabulary
    tags = {vocabulary.think_start, vocabulary.think_end}
    choices = [i for i in range(len(loaded.tokenizer)) if i not in tags and vocabulary.token_bytes[i] != b"\0"]
    for _ in range(20):
        ids = generator.choices(choices, k=200)
        text = loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert joined(run(Detokenizer(vocabulary), ids)) == (text, "")
        stop = text[60:63]
        assert joined(run(Detokenizer(vocabulary, stop=[stop]), ids))[0] == text[: text.index(stop)]
