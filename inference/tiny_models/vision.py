"""Builds a small Qwen3-VL of about 1.5 million random weights: real architecture, processor and kind of tokenizer.

Tests and demonstrations run the same code paths with it as with a released model. Its answers are meaningless.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers.utils.logging import disable_progress_bar

from inference.engine import torchvision_compat

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerFast,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
    )

CORPUS = Path(__file__).with_name("tiny_corpus.txt")
VOCABULARY_SIZE = 512
#: tokens of prompt and answer together
CONTEXT_LENGTH = 4096

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
#: added tokens that are still text, as in the released models
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")

#: pixels of one merged patch, which is one token of the prompt
TOKEN_PIXELS = 32 * 32

#: conversations with images, videos and tools, in the form of the released models
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
#: the same for a model that thinks before each answer unless it is told not to, and sees its thoughts of the same turn
THINKING_CHAT_TEMPLATE = Path(__file__).with_name("thinking_chat_template.jinja").read_text(encoding="utf-8")

_COMPLETE_MARK = "config.json"


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds a model; a build leaves either all of it or nothing."""
    return (folder / _COMPLETE_MARK).is_file()


def build_tiny_model(folder: Path, *, seed: int = 0, chat_template: str = CHAT_TEMPLATE) -> Path:
    """Write the model, tokenizer and processor to ``folder``, replacing what is there, and return it.

    The same seed gives the same bytes. The files are written beside the folder and moved into place when complete.
    """
    with written_at_once(folder) as unfinished:
        processor = make_processor(chat_template)
        make_model(processor.tokenizer, seed=seed).save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
    return folder.absolute()


@contextlib.contextmanager
def written_at_once(folder: Path) -> Iterator[Path]:
    """A folder to write a model into, which takes the place of ``folder`` when it is complete."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
    disable_progress_bar()
    try:
        yield unfinished
        _replace(folder, unfinished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replace(folder: Path, by: Path) -> None:
    if not folder.exists():
        by.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    folder.rename(old)
    by.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY_SIZE`` entries, trained on the text beside this module."""
    from transformers import Qwen2TokenizerFast

    added = len(SPECIAL_TOKENS) + len(MARKUP_TOKENS)
    # The class has its own rules for splitting text into words, whatever the file says; train with the same rules.
    rules = Qwen2TokenizerFast().backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = rules.normalizer
    bpe.pre_tokenizer = rules.pre_tokenizer
    bpe.decoder = rules.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - added,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS.read_text(encoding="utf-8").splitlines(keepends=True), trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    bpe.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP_TOKENS])
    return Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        bos_token=None,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_LENGTH,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (END_OF_TEXT, END_OF_TURN)],
    )


def make_processor(chat_template: str = CHAT_TEMPLATE) -> Qwen3VLProcessor:
    """The Qwen3-VL processor with a pixel budget of at most 64 tokens an image and 128 a video (timestamps apart)."""
    torchvision_compat.declare_missing_operators()
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    patches: dict[str, Any] = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size={"shortest_edge": 4 * TOKEN_PIXELS, "longest_edge": 64 * TOKEN_PIXELS}, **patches
        ),
        tokenizer=make_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(
            # One token covers the same patch of two frames.
            size={"shortest_edge": 8 * TOKEN_PIXELS, "longest_edge": 2 * 128 * TOKEN_PIXELS},
            cap_pixels_per_frame=False,
            **patches,
        ),
        chat_template=chat_template,
    )


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """The configuration of the small model, with the token ids of ``tokenizer``."""
    from transformers import Qwen3VLConfig

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": CONTEXT_LENGTH,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "pad_token_id": ids[END_OF_TEXT],
            "eos_token_id": ids[END_OF_TURN],
        },
        vision_config={
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 128,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Qwen3VLForConditionalGeneration:
    """The model in float32 with random weights that are a function of ``seed`` alone."""
    torchvision_compat.declare_missing_operators()
    from transformers import Qwen3VLForConditionalGeneration

    # Construction draws from torch's global generator, which belongs to the caller; the final weights come from
    # ``draw_weights``.
    with torch.random.fork_rng(devices=[]):
        model = Qwen3VLForConditionalGeneration(make_config(tokenizer)).to(torch.float32).eval()
    draw_weights(model, tokenizer, seed=seed)
    return model


def draw_weights(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> None:
    """Set random weights that are a function of ``seed`` alone, and the default sampling of the model."""
    from transformers import GenerationConfig

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() > 1:
                # Three times the usual scale: with smaller weights greedy decoding soon repeats one token for ever.
                weight.normal_(0.0, 3.0 / weight[0].numel() ** 0.5, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()
        model.get_input_embeddings().weight.normal_(0.0, 1.0, generator=generator)
        _shape_output(model.get_output_embeddings().weight, tokenizer, generator)
    eos_ids = [tokenizer.convert_tokens_to_ids(token) for token in (END_OF_TURN, END_OF_TEXT)]
    model.generation_config = GenerationConfig(
        eos_token_id=eos_ids, pad_token_id=eos_ids[1], do_sample=True, temperature=0.7, top_p=0.8, top_k=20
    )


def _shape_output(weight: torch.Tensor, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator) -> None:
    # Mostly readable letters: control characters, lone bytes of longer ones and the end of the turn get small logits,
    # and other tokens that are not text get 0, so that they are never the likeliest and rarely drawn.
    weight.normal_(0.0, 2.0 / weight.shape[1] ** 0.5, generator=generator)
    for token_id in range(len(tokenizer)):
        token = tokenizer.convert_ids_to_tokens(token_id)
        if token in SPECIAL_TOKENS and token != END_OF_TURN:
            weight[token_id] = 0.0
        elif token in MARKUP_TOKENS or not tokenizer.decode([token_id]).replace("\n", "").isprintable():
            weight[token_id] *= 0.25
        elif token == END_OF_TURN or "\ufffd" in tokenizer.decode([token_id]):
            weight[token_id] *= 0.5
