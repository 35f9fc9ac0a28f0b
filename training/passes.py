"""The forward passes of training, over the reader's own modules: what Transformers does, for batches of one shape.

Pictures of a batch have the same size and the prompt is the same, so that positions are computed once, the answer is
at the same place in every row, and logits are made for answers only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ocr.reading import prompt
from training.attention import attend
from training.reader_model import PATCH, PIXEL_MEAN, PIXEL_STD


@dataclass(frozen=True, slots=True)
class Seen:
    """What the eye makes of pictures."""

    #: [pictures * tokens, text width]
    tokens: Tensor
    #: the same of earlier layers, which the first text layers get
    earlier: list[Tensor]

    def first(self, tokens: int) -> Seen:
        """The first ``tokens`` tokens, as things that are given: nothing is learned through them."""
        return Seen(self.tokens[:tokens].detach(), [layer[:tokens].detach() for layer in self.earlier])


class Passes:
    """Runs ``model`` (a Qwen3VLForConditionalGeneration) with ``processor``'s prompt."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self._processor = processor
        self._prompts: dict[tuple[int, int, str], tuple[Tensor, Tensor]] = {}
        embed = model.model.visual.patch_embed
        # The same sums as its convolution, whose stride is its kernel, in one product and for a picture shown once.
        embed.forward = functools.partial(_project, embed)
        for block in model.model.visual.blocks:
            # All pictures at once; Transformers takes one after the other.
            block.attn.forward = functools.partial(_attend, block.attn)

    @property
    def device(self) -> torch.device:
        return self.model.lm_head.weight.device

    def see(self, pixels: Tensor) -> Seen:
        """``pixels``: [pictures, height, width, 3] uint8."""
        count, height, width, _ = pixels.shape
        grid = torch.tensor([[1, height // PATCH, width // PATCH]] * count, device=self.device)
        out = self.model.model.visual(patches_of(pixels.to(self.device)), grid_thw=grid)
        return Seen(out.pooler_output, out.deepstack_features)

    def read(self, seen: Seen, answers: Tensor, size: tuple[int, int], *, asked: str = "") -> tuple[Tensor, int]:
        """Logits of every answer token, [pictures, answer, vocabulary], and the position that writes the first one.

        ``answers``: [pictures, answer] token ids, padded with any; ``size``: the pictures' width and height; ``asked``:
        what is said of the picture, the prompt of ``/ktp-ocr/`` unless given.
        """
        ids, positions = self._prompt(*size, asked)
        count, length = answers.shape
        ids, positions = ids.to(self.device), positions.to(self.device)
        everything = torch.cat([ids.expand(count, -1), answers], dim=1)
        text = self.model.model.language_model
        embedded = text.embed_tokens(everything)
        at_picture = everything == self.model.config.image_token_id
        embedded = embedded.masked_scatter(at_picture[..., None], seen.tokens.to(embedded.dtype))
        later = positions[:, :, -1:] + 1 + torch.arange(length, device=self.device)
        hidden = text(
            inputs_embeds=embedded,
            position_ids=torch.cat([positions, later], dim=2).expand(-1, count, -1),
            use_cache=False,
            visual_pos_masks=at_picture,
            deepstack_visual_embeds=seen.earlier,
        ).last_hidden_state
        first = ids.shape[1] - 1
        return self.model.lm_head(hidden[:, first : first + length]), first

    def say(self, ids: Tensor) -> Tensor:
        """Logits of a conversation without pictures, [rows, tokens, vocabulary], of ids [rows, tokens]."""
        return self.model.lm_head(self.model.model.language_model(input_ids=ids, use_cache=False).last_hidden_state)

    def prompt_length(self, size: tuple[int, int]) -> int:
        """Tokens of the prompt, the picture's among them."""
        return int(self._prompt(*size)[0].shape[1])

    def picture_starts(self, size: tuple[int, int]) -> int:
        """The position of the picture's first token."""
        ids, _ = self._prompt(*size)
        return int((ids[0] == self.model.config.image_token_id).nonzero()[0, 0])

    def _prompt(self, width: int, height: int, asked: str = "") -> tuple[Tensor, Tensor]:
        """Ids [1, tokens] and positions [3, 1, tokens] of the prompt for a picture of that size."""
        known = self._prompts.get((width, height, asked))
        if known is None:
            from PIL import Image

            inputs = self._processor.apply_chat_template(
                [
                    {
                        **message,
                        "content": [
                            {**part, "image": Image.new("RGB", (width, height))} if part["type"] == "image" else part
                            for part in message["content"]
                        ],
                    }
                    for message in (_picture_and(asked) if asked else prompt.messages())
                ],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            grid = inputs["image_grid_thw"]
            if grid.tolist() != [[1, height // PATCH, width // PATCH]]:
                raise ValueError(f"The processor does not keep pictures of {width}×{height} pixels as they are.")
            positions, _ = self.model.model.get_rope_index(
                inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=grid
            )
            known = self._prompts[width, height, asked] = inputs["input_ids"], positions
        return known


def _picture_and(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def patches_of(pixels: Tensor) -> Tensor:
    """[pictures, height, width, 3] uint8 to [patches, 3 * PATCH * PATCH], in the processor's order."""
    count, height, width, _ = pixels.shape
    values = (pixels.float() / 255 - PIXEL_MEAN) / PIXEL_STD
    values = values.view(count, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return values.permute(0, 1, 3, 5, 2, 4).reshape(-1, 3 * PATCH * PATCH)


def _project(embed: Any, patches: Tensor) -> Tensor:
    weight = embed.proj.weight
    if patches.shape[1] == weight[0].numel():
        # As the processor gives them: each patch twice, for the two frames of a still.
        return F.linear(patches.to(weight.dtype), weight.flatten(1), embed.proj.bias)
    return F.linear(patches, weight.sum(2).flatten(1), embed.proj.bias)


def _attend(
    attention: Any, hidden: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any
) -> Tensor:
    """The eye's attention over pictures of one size. ``hidden``: [pictures * patches, width]."""
    pictures = len(cu_seqlens) - 1
    query, key, value = attention.qkv(hidden).view(pictures, -1, 3, attention.num_heads, attention.head_dim).unbind(2)
    cos, sin = (part.float().view(pictures, -1, 1, attention.head_dim) for part in position_embeddings)
    query, key = (_rotated(part.float(), cos, sin) for part in (query, key))
    out = attend(*(part.transpose(1, 2) for part in (query, key, value)))
    return attention.proj(out.transpose(1, 2).reshape(hidden.shape))


def _rotated(part: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = part.chunk(2, dim=-1)
    return part * cos + torch.cat([-second, first], dim=-1) * sin
