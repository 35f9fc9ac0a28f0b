from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inference.engine.arrangement import arrange
from inference.engine.media_encoder import MediaEncoder
from inference.engine.media_inputs import MediaPiece
from inference.engine.patch_embedding import PatchEmbedding, replace_patch_embedding
from inference.engine.prompts import PromptMaker


def convolution(dtype: torch.dtype = torch.float32, **options: Any) -> torch.nn.Conv3d:
    torch.manual_seed(1)
    shape: dict[str, Any] = {"kernel_size": (2, 4, 4), "stride": (2, 4, 4), **options}
    return torch.nn.Conv3d(3, 20, **shape).to(dtype)


def model_with(layer: Any) -> Any:
    return SimpleNamespace(model=SimpleNamespace(visual=SimpleNamespace(patch_embed=SimpleNamespace(proj=layer))))


def patches_of(frames: torch.Tensor) -> torch.Tensor:
    """[patches, channels, frames, side, side] → as the processor gives them."""
    return frames.flatten(1)


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_patch_gives_what_the_convolution_gives(dtype: torch.dtype, tolerance: float, bias: bool) -> None:
    layer = convolution(dtype, bias=bias)
    frames = torch.randn(7, 3, 2, 4, 4)
    expected = layer(frames.to(dtype)).flatten(1)
    torch.testing.assert_close(PatchEmbedding(layer)(patches_of(frames)), expected, rtol=0, atol=tolerance)


@torch.inference_mode()
def test_of_an_image_one_frame_is_enough() -> None:
    layer = convolution()
    patches = patches_of(torch.randn(7, 3, 1, 4, 4).expand(-1, -1, 2, -1, -1))
    embedding = PatchEmbedding(layer)
    half = embedding.one_frame(patches)
    assert half.shape == (7, 3 * 4 * 4)
    torch.testing.assert_close(embedding(half), embedding(patches), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [convolution(stride=(2, 2, 2)), torch.nn.Linear(96, 20), None],
    ids=["overlapping", "a product", "nothing"],
)
def test_another_first_layer_stays(layer: Any) -> None:
    model = model_with(layer)
    replace_patch_embedding(model)
    assert model.model.visual.patch_embed.proj is layer


def test_a_model_without_a_vision_tower_stays() -> None:
    replace_patch_embedding(SimpleNamespace(model=SimpleNamespace()))


@pytest.fixture(scope="module")
def arranged(own_layers: Any) -> Any:
    model = copy.deepcopy(own_layers.model)
    arrange(model, max_rows=1, threads=1)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("kinds", [("image",), ("video",), ("image", "video")], ids=["image", "video", "both"])
def test_images_and_frames_have_the_embeddings_of_the_model(
    own_layers: Any, arranged: Any, make_request: Any, kinds: tuple[str, ...]
) -> None:
    maker = PromptMaker(own_layers, max_context_tokens=4096)
    pieces: list[MediaPiece] = [piece for kind in kinds for piece in maker.make(make_request(kind)).pieces]
    assert isinstance(arranged.model.visual.patch_embed, PatchEmbedding)
    found = MediaEncoder(arranged, max_bytes=0).encode(pieces)
    expected = MediaEncoder(own_layers.model, max_bytes=0).encode(pieces)
    for one, other in zip(found, expected, strict=True):
        for some, right in zip((one.embeddings, *one.deepstack), (other.embeddings, *other.deepstack), strict=True):
            torch.testing.assert_close(some, right, rtol=0, atol=1e-3)
