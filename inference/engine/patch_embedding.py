"""The first layer of the vision tower as a product of matrices, with half of the arithmetic for images."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


class PatchEmbedding(torch.nn.Module):
    """Replaces a convolution whose kernel is as large as its patch, so that each patch is one row of a product.

    A patch has several frames. Those of an image are equal, so one frame and the sum of their weights give the same.
    """

    def __init__(self, convolution: torch.nn.Conv3d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self._channels, self._frames = weight.shape[1:3]
        self._whole = weight.flatten(1).contiguous()
        self._summed = weight.float().sum(dim=2).flatten(1).to(weight.dtype)
        self._bias = None if convolution.bias is None else convolution.bias.detach()

    def one_frame(self, patches: torch.Tensor) -> torch.Tensor:
        """The first frame of each patch of images: [patches, values of a patch] → [patches, values of a frame]."""
        return patches.view(len(patches), self._channels, self._frames, -1)[:, :, 0].flatten(1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """[patches, values of a patch], or of a frame → [patches, hidden size]."""
        weight = self._summed if patches.shape[1] == self._summed.shape[1] else self._whole
        return functional.linear(patches.to(weight.dtype), weight, self._bias)


def replace_patch_embedding(model: Any) -> None:
    """Nothing is done to a model whose vision tower begins in another way, or that has none."""
    visual: Any = getattr(model.model, "visual", None)
    convolution = getattr(getattr(visual, "patch_embed", None), "proj", None)
    if (
        isinstance(convolution, torch.nn.Conv3d)
        and convolution.stride == convolution.kernel_size
        and (convolution.padding, convolution.dilation, convolution.groups) == ((0, 0, 0), (1, 1, 1), 1)
        and convolution.weight.shape[2] > 1
    ):
        visual.patch_embed = PatchEmbedding(convolution)
