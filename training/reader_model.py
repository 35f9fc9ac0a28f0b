"""The reader itself: Transformers' own Qwen3-VL classes, in a size that two CPU cores can train and serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from inference.engine import torchvision_compat
from inference.tiny_models.vision import CHAT_TEMPLATE, CONTEXT_LENGTH, END_OF_TEXT, END_OF_TURN, SPECIAL_TOKENS
from training.examples import TOKEN_SIDE
from training.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

#: of the pixels of specimens, so that what the eye gets has mean 0 and deviation 1
PIXEL_MEAN, PIXEL_STD = 0.72, 0.22
#: Every patch is a token: four in one hold some ten letters on two lines, and to tell them apart is hard to learn.
PATCH = TOKEN_SIDE
TOKEN_PIXELS = TOKEN_SIDE**2


@dataclass(frozen=True, slots=True)
class Size:
    """How large a reader is. Widths are multiples of the number of heads times 4."""

    eye_width: int
    eye_depth: int
    eye_heads: int
    text_width: int
    text_depth: int
    text_heads: int
    #: the picture's width in pixels for which it is made; a multiple of 128
    picture_width: int

    @property
    def picture_height(self) -> int:
        """Of a card: ID-1 proportions, in whole tokens."""
        return round(self.picture_width / 1.6 / TOKEN_SIDE) * TOKEN_SIDE

    @property
    def picture_tokens(self) -> int:
        return self.picture_width * self.picture_height // TOKEN_PIXELS


SIZES: dict[str, Size] = {
    # For two cores.
    "small": Size(128, 4, 4, 160, 4, 5, 512),
    # For a GPU, with half as many pixels again in each direction.
    "medium": Size(256, 6, 4, 320, 6, 10, 768),
    # For tests.
    "tiny": Size(32, 2, 2, 64, 3, 2, 512),
}


def make_processor(size: Size) -> Qwen3VLProcessor:
    """Scales every picture to about the pixels that the reader was trained with, small ones up as well."""
    torchvision_compat.declare_missing_operators()
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    patches: dict[str, Any] = {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 1,
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_STD] * 3,
    }
    # Sizes are cut down to whole tokens above the upper bound and filled up below the lower: with the bounds a little
    # above and below, a card of ID-1 proportions comes out at exactly the size that was trained.
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size={
                "shortest_edge": round(0.97 * size.picture_tokens) * TOKEN_PIXELS,
                "longest_edge": round(1.04 * size.picture_tokens) * TOKEN_PIXELS,
            },
            **patches,
        ),
        tokenizer=make_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(
            size={"shortest_edge": 32 * TOKEN_PIXELS, "longest_edge": 2 * 512 * TOKEN_PIXELS},
            cap_pixels_per_frame=False,
            **patches,
        ),
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, size: Size, *, seed: int) -> Qwen3VLForConditionalGeneration:
    """The untrained reader in float32."""
    torchvision_compat.declare_missing_operators()
    from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    head = size.text_width // size.text_heads
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": size.text_width,
            "intermediate_size": 8 * size.text_width // 3 // 32 * 32,
            "num_hidden_layers": size.text_depth,
            "num_attention_heads": size.text_heads,
            "num_key_value_heads": size.text_heads,
            "head_dim": head,
            "max_position_embeddings": CONTEXT_LENGTH,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6],
                "mrope_interleaved": True,
            },
            "pad_token_id": ids[END_OF_TEXT],
            "eos_token_id": ids[END_OF_TURN],
        },
        vision_config={
            "depth": size.eye_depth,
            "hidden_size": size.eye_width,
            "intermediate_size": 4 * size.eye_width,
            "num_heads": size.eye_heads,
            "patch_size": PATCH,
            "spatial_merge_size": 1,
            "temporal_patch_size": 2,
            "out_hidden_size": size.text_width,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [size.eye_depth // 2 - 1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).to(torch.float32)
        _initialise(model)
    eos_ids = [ids[END_OF_TURN], ids[END_OF_TEXT]]
    model.generation_config = GenerationConfig(eos_token_id=eos_ids, pad_token_id=ids[END_OF_TEXT], do_sample=False)
    return model


@torch.no_grad()
def _initialise(model: Any) -> None:
    """Start with signals of size one: with the usual small weights, made for far wider layers, the eye sleeps long."""
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.normal_(0.0, weight[0].numel() ** -0.5)
        if name.endswith(("attn.proj.weight", "mlp.linear_fc2.weight", "o_proj.weight", "down_proj.weight")):
            weight.mul_(0.5)
    model.model.language_model.embed_tokens.weight.normal_(0.0, 0.5)
    model.lm_head.weight.mul_(0.3)
    # Places in the picture are told apart by the rotations alone at first, so that a letter is the same everywhere.
    model.model.visual.pos_embed.weight.zero_()
