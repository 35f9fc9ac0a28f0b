"""Text becomes the tokens that the model's tokenizer makes of it, in pieces, and never a control token."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from inference.engine.errors import InvalidPrompt
from inference.engine.text_encoder import PIECE_CHARACTERS, TextEncoder
from inference.engine.vocabulary import Vocabulary
from inference.tiny_models.vision import CORPUS, MARKUP_TOKENS, SPECIAL_TOKENS

ALPHABETS = (
    *("abcXYZ", "0123456789", " \n\t\r", "!?.,;|<>", "日本語文"),
    *("éñü", "e\u0301\u0327q", "가각\u1100\u1161\u11a8", "😀👩\u200d"),
)
WORDS = st.sampled_from(ALPHABETS).flatmap(lambda alphabet: st.text(alphabet, min_size=1, max_size=6))

#: one that is not sure to fit into a piece may be cut elsewhere
LONG_WORD = re.compile(r"\w{32}|\s{32}|[^\w\s]{32}")


@pytest.fixture(scope="module")
def tokenizer(loaded: Any) -> Any:
    return loaded.tokenizer


@pytest.fixture(scope="module")
def encoder(loaded: Any) -> TextEncoder:
    return TextEncoder(loaded.tokenizer, loaded.vocabulary)


@pytest.fixture(scope="module")
def cutting(loaded: Any) -> TextEncoder:
    return TextEncoder(loaded.tokenizer, loaded.vocabulary, piece_characters=64)


def whole(encoder: TextEncoder, text: str) -> list[int]:
    return [token for piece in encoder.pieces(text) for token in piece]


@pytest.mark.parametrize(
    "combining", ["e\u0301\u0301\u0327", "\u00e9\u0301\u0327", "\u1112\u1161\u11ab", "\u09c7\u09be"], ids=ascii
)
def test_no_piece_ends_between_characters_that_combine(tokenizer: Any, cutting: TextEncoder, combining: str) -> None:
    for length in range(64):
        text = ("kata " * 20)[:length] + combining + " kata" * 20
        assert whole(cutting, text) == tokenizer.encode(text, add_special_tokens=False)


@settings(max_examples=400, deadline=None)
@given(words=st.lists(WORDS, max_size=120))
def test_pieces_are_those_of_the_whole_text(tokenizer: Any, cutting: TextEncoder, words: list[str]) -> None:
    text = "".join(words)
    assume(not LONG_WORD.search(text))
    assert whole(cutting, text) == tokenizer.encode(text, add_special_tokens=False)


def test_a_long_text_comes_in_many_pieces(tokenizer: Any, encoder: TextEncoder) -> None:
    text = CORPUS.read_text(encoding="utf-8") * 20
    assert len(list(encoder.pieces(text))) >= len(text) // PIECE_CHARACTERS > 3
    assert whole(encoder, text) == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("word", ["a", "1", " ", "\n", "日", "é", "="])
def test_a_word_without_an_end_is_cut_and_nothing_of_it_is_lost(
    tokenizer: Any, encoder: TextEncoder, word: str
) -> None:
    text = word * (3 * PIECE_CHARACTERS + 5)
    assert tokenizer.decode(whole(encoder, text)) == text


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), st.text("e\u0301\u03b9\u0308\u1100\u1161\u11a8"), st.lists(WORDS).map("".join)))
def test_no_text_has_fewer_tokens_than_its_length_allows(encoder: TextEncoder, text: str) -> None:
    assert encoder.at_least(text) <= len(whole(encoder, text))
    assert bool(encoder.at_least(text)) == bool(text)


def test_the_longest_token_is_what_the_bound_is_made_of(loaded: Any, encoder: TextEncoder) -> None:
    controls = loaded.vocabulary.controls
    longest = max((raw for i, raw in enumerate(loaded.vocabulary.token_bytes) if i not in controls), key=len).decode()
    assert encoder.at_least(longest * 1000) == 1000


@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, *MARKUP_TOKENS])
def test_the_name_of_a_control_token_is_text(tokenizer: Any, encoder: TextEncoder, token: str) -> None:
    ids = whole(encoder, f"a{token}b{token}")
    assert tokenizer.decode(ids) == f"a{token}b{token}"
    assert set(ids).isdisjoint(tokenizer.added_tokens_decoder)


def test_words_phrases_and_spaces_that_were_added_for_being_frequent_stay_tokens(tokenizer: Any) -> None:
    frequent = copy.deepcopy(tokenizer)
    texts = ("Kabupaten", "\n\n\n", "Jawa Barat", '",\n  "nik": "', "<b> and <i>")
    frequent.add_tokens([AddedToken(text, normalized=False) for text in (*texts, "<x>", "[y]", "<｜z▁z｜>")])
    encoder = TextEncoder(frequent, Vocabulary.of(frequent), piece_characters=64)
    text = "di Kabupaten itu,\n\n\nJawa Barat" * 20 + '"a",\n  "nik": "1<b> and <i>'
    ids = whole(encoder, text)
    assert ids == frequent.encode(text, add_special_tokens=False)
    assert {512, 513, 514, 515, 516} <= set(ids)
    assert not {517, 518, 519} & set(whole(encoder, "<x>[y]<｜z▁z｜>"))


def test_a_phrase_that_is_one_token_is_not_cut(tokenizer: Any) -> None:
    frequent = copy.deepcopy(tokenizer)
    frequent.add_tokens([AddedToken("Salin apa yang tercetak, huruf demi huruf.", normalized=False)])
    encoder = TextEncoder(frequent, Vocabulary.of(frequent), piece_characters=64)
    for before in range(300):
        text = "ya " * (before // 3) + "a" * (before % 3) + "Salin apa yang tercetak, huruf demi huruf." + " b" * 200
        assert whole(encoder, text) == frequent.encode(text, add_special_tokens=False)


def test_a_text_that_the_tokenizer_itself_takes_for_a_control_token_is_refused(tokenizer: Any) -> None:
    clashing = copy.deepcopy(tokenizer)
    clashing.add_tokens([AddedToken("~", normalized=False, special=True)], special_tokens=True)
    encoder = TextEncoder(clashing, Vocabulary.of(clashing))
    assert whole(encoder, "a") == clashing.encode("a", add_special_tokens=False)
    with pytest.raises(InvalidPrompt, match="control token"):
        whole(encoder, "a ~ b")
