"""Builds small text-only models, with the tokenizer and chat template of the small Qwen3-VL. For tests."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from inference.engine import torchvision_compat
from inference.tiny_models.vision import (
    CHAT_TEMPLATE,
    CONTEXT_LENGTH,
    END_OF_TEXT,
    END_OF_TURN,
    draw_weights,
    make_tokenizer,
    written_at_once,
)

Architecture = Literal["qwen3", "llama"]


def build_tiny_text_model(folder: Path, *, architecture: Architecture = "qwen3", seed: int = 0) -> Path:
    """Write the model, about 0.8 million random weights, and its tokenizer to ``folder``, and return it.

    The same seed gives the same bytes. An existing folder is replaced.
    """
    torchvision_compat.declare_missing_operators()
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=None,
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TURN),
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config).to(torch.float32).eval()
    draw_weights(model, tokenizer, seed=seed)
    with written_at_once(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    return folder.absolute()
