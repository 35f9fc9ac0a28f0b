"""The reader's tokenizer: byte-level BPE in which every capital and digit stays a token of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, models, trainers

from inference.tiny_models.vision import CONTEXT_LENGTH, CORPUS, END_OF_TEXT, END_OF_TURN, MARKUP_TOKENS, SPECIAL_TOKENS
from training.answers import ONLY_READS_CARDS, prompt_pieces, skeleton

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: bytes, and what is merged of lower-case words
_BPE_TOKENS = 400


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The same tokenizer every time: it follows from the prompt and the texts that it is trained on.

    The prompt's paragraphs and the pieces of JSON between values are added tokens, taken whole wherever they stand. An
    edited prompt is still tokenized, in letters, and the reader has to be trained for it again.
    """
    from tokenizers import pre_tokenizers
    from transformers import Qwen2TokenizerFast

    # The class brings its own rules for cutting text into words, whatever the file says; train with the same ones.
    rules = Qwen2TokenizerFast().backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer, bpe.decoder = rules.normalizer, rules.pre_tokenizer, rules.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=_BPE_TOKENS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    # Capitals in the text would be merged, and the letters of a card's values with them.
    text = f"{CORPUS.read_text(encoding='utf-8')}\n{10 * (ONLY_READS_CARDS + ' ')}"
    bpe.train_from_iterator([re.sub(r"\S*[^a-z\s.,;]\S*", "", text)], trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    pieces = (*MARKUP_TOKENS, *prompt_pieces(), *skeleton())
    bpe.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in pieces])
    return Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        bos_token=None,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_LENGTH,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (END_OF_TEXT, END_OF_TURN)],
    )
