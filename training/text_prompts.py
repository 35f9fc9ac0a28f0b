"""Prompts that do not ask for a card, with a picture or without, for which the reader learns to say what it is not."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from inference.tiny_models.vision import CHAT_TEMPLATE, END_OF_TURN
from training.answers import ONLY_READS_CARDS

PROMPTS = (
    "Hello!",
    "Hi",
    "Halo",
    "Apa kabar?",
    "Who are you?",
    "Siapa kamu?",
    "What can you do?",
    "What is the capital of France?",
    "Apa ibu kota Indonesia?",
    "Write a poem about the sea.",
    "Tulis puisi tentang hujan.",
    "Count from 1 to 10.",
    "Say hello in three languages.",
    "Explain how a rainbow forms.",
    "Jelaskan apa itu KTP.",
    "What is 2 + 2?",
    "Berapa 12 kali 12?",
    "Translate 'good morning' into Indonesian.",
    "Tell me a joke.",
    "Summarise this text: the quick brown fox jumps over the lazy dog.",
    "Give me a recipe for fried rice.",
    "You are a helpful assistant.",
    "Why is the sky blue?",
    "Write a Python function that adds two numbers.",
    "Describe the weather.",
    "Tell me about yourself in one sentence.",
    "test",
    "Stream a long answer, please.",
    "List five fruits.",
    "Siapa presiden pertama Indonesia?",
    "How do I install this?",
    "Good night.",
    "What is in this picture?",
    "Gambar apa ini?",
    "Describe this image.",
    "Apa yang terjadi?",
    "Apa ini?",
    "Read the text in the image.",
)


def text_rows(tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Ids of conversations without a picture and, of the same shape, what is to be learned of them; -1 elsewhere."""
    rows, wanted = [], []
    random = Random(0)  # noqa: S311
    for text in PROMPTS:
        messages = [{"role": "user", "content": text}]
        if random.random() < 0.3:
            messages.insert(0, {"role": "system", "content": random.choice(PROMPTS)})
        asked = tokenizer.apply_chat_template(
            messages, chat_template=CHAT_TEMPLATE, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        said = what_it_is(tokenizer)
        rows.append([*asked, *said])
        wanted.append([-1] * len(asked) + said)
    longest = max(map(len, rows))
    pad = tokenizer.pad_token_id
    return (
        torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
        torch.tensor([row + [-1] * (longest - len(row)) for row in wanted]),
    )


def what_it_is(tokenizer: Any) -> list[int]:
    """The tokens of the one sentence, with the end of the turn."""
    return [*tokenizer.encode(ONLY_READS_CARDS), tokenizer.convert_tokens_to_ids(END_OF_TURN)]
