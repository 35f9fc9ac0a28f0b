"""The two ways through the layers give the same keys, values and logits, however prompts are cut and combined."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from inference.engine import agreement, torchvision_compat
from inference.engine.arrangement import arrange, quantize
from inference.engine.fused_layers import FusedLayer, FusedLayers, fused_layers
from inference.engine.fused_prefill import FusedPrefill
from inference.engine.layers_prefill import LayersPrefill
from inference.engine.media_encoder import MediaEncoder
from inference.engine.prefill import Prefiller
from inference.engine.prefill_unit import Part, Prefill, Prefilled, PrefillPass, PrefillUnit
from inference.engine.prefix_cache import PrefixCache
from inference.engine.prompts import Prompt, PromptMaker

LAYERS, KEY_HEADS, HEAD = 2, 2, 16


@pytest.fixture(scope="module")
def text_model() -> Any:
    torchvision_compat.declare_missing_operators()
    torch.manual_seed(1)
    config = transformers.Qwen3Config(
        vocab_size=90,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD,
        max_position_embeddings=256,
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompt_of(tokens: int, seed: int) -> Prompt:
    return Prompt.of_tokens(torch.randint(90, (tokens,), generator=torch.manual_seed(seed)), axes=1)


def alone(layers: LayersPrefill, prompt: Prompt, model: Any) -> Prefilled:
    [found] = layers.run(PrefillUnit.of([Part.next_of(Prefill(prompt, []), 1000)], model.get_input_embeddings()))
    return found


def in_units(way: PrefillPass, prefills: Sequence[Prefill], tokens: int, model: Any) -> tuple[list[Prefilled], int]:
    """All prompts in units of at most ``tokens``, and the number of units."""
    queue, found, units = list(prefills), list[Prefilled](), 0
    while queue:
        complete = way.run(PrefillUnit.of(way.choose(queue, tokens), model.get_input_embeddings()))
        found += complete
        del queue[: len(complete)]
        units += 1
    return found, units


def assert_same(found: Sequence[Prefilled], expected: Sequence[Prefilled], tolerance: float = 1e-4) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=tolerance)
        assert len(one.states) == len(other.states)
        for states, right in zip(one.states, other.states, strict=True):
            torch.testing.assert_close(states, right, rtol=0, atol=tolerance)


@pytest.fixture(params=["fused", "fused, padded", "own layers"])
def way(request: Any, text_model: Any) -> PrefillPass:
    if request.param == "own layers":
        return LayersPrefill(text_model)
    return FusedPrefill(FusedLayers(text_model), pads=request.param == "fused, padded")


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 3, 8, 13, 40, 1000])
@pytest.mark.parametrize("lengths", [(1,), (40,), (7, 7, 7), (5, 19, 2, 11)])
def test_prompts_cut_and_combined_give_what_each_gives_alone(
    text_model: Any, way: PrefillPass, lengths: tuple[int, ...], tokens: int
) -> None:
    prompts = [prompt_of(length, seed) for seed, length in enumerate(lengths)]
    found, _ = in_units(way, [Prefill(prompt, []) for prompt in prompts], tokens, text_model)
    assert_same(found, [alone(LayersPrefill(text_model), prompt, text_model) for prompt in prompts])


@torch.inference_mode()
def test_a_cached_prefix_is_not_computed_again(text_model: Any, way: PrefillPass) -> None:
    prompts = [prompt_of(20, 1), prompt_of(9, 2), prompt_of(12, 3)]
    expected = [alone(LayersPrefill(text_model), prompt, text_model) for prompt in prompts]
    prefills = [
        Prefill(prompt, [layer[:, :, :cached].clone() for layer in whole.states] if cached else [])
        for prompt, whole, cached in zip(prompts, expected, (13, 0, 11), strict=True)
    ]
    assert [prefill.remaining for prefill in prefills] == [7, 9, 1]
    found, _ = in_units(way, prefills, 1000, text_model)
    assert_same(found, expected)


def test_only_the_first_prompt_of_a_unit_is_cut(text_model: Any) -> None:
    fused = FusedPrefill(FusedLayers(text_model), pads=False)
    prefills = [Prefill(prompt_of(length, length), []) for length in (12, 5, 4, 30)]
    assert [part.count for part in fused.choose(prefills, 16)] == [12]
    assert [part.count for part in fused.choose(prefills, 22)] == [12, 5, 4]
    assert [part.count for part in fused.choose(prefills, 8)] == [8]
    assert [part.count for part in fused.choose(prefills[3:], 8)] == [8]


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [13, 100])
def test_a_unit_that_failed_midway_can_be_run_again(
    text_model: Any, way: PrefillPass, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    prompts = [prompt_of(20, 1), prompt_of(9, 2)]
    expected = [alone(LayersPrefill(text_model), prompt, text_model) for prompt in prompts]
    prefills = [Prefill(prompt, []) for prompt in prompts]
    embed = text_model.get_input_embeddings()
    if tokens < 20:  # The first prompt has begun.
        way.run(PrefillUnit.of(way.choose(prefills, tokens), embed))

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        for place in (text_model.model.layers[1].mlp, FusedLayer):
            broken.setattr(place, "forward" if place is not FusedLayer else "finish", fail)
        way.run(PrefillUnit.of(way.choose(prefills, tokens), embed))
    found, _ = in_units(way, prefills, tokens, text_model)
    assert_same(found, expected)


@torch.inference_mode()
def test_a_complete_prompt_can_be_run_again(text_model: Any, way: PrefillPass) -> None:
    prefills = [Prefill(prompt_of(length, length), []) for length in (9, 9)]
    embed = text_model.get_input_embeddings()
    once, again = (way.run(PrefillUnit.of(way.choose(prefills, 40), embed)) for _ in range(2))
    assert len(once) == 2
    assert_same(once, again)


@torch.inference_mode()
@pytest.mark.parametrize(("kind", "tolerance"), [("Llama", 1e-4), ("Qwen2", 1e-4)])
def test_layers_with_biases_and_without_norms_of_heads_are_known_too(kind: str, tolerance: float) -> None:
    torchvision_compat.declare_missing_operators()
    torch.manual_seed(2)
    settings = getattr(transformers, f"{kind}Config")(
        vocab_size=90, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6
    )
    settings.num_key_value_heads = 3
    model = transformers.AutoModelForCausalLM.from_config(settings).eval()
    prompts = [prompt_of(20, 1), prompt_of(9, 2)]
    expected = [alone(LayersPrefill(model), prompt, model) for prompt in prompts]
    fused = FusedPrefill(FusedLayers(model), pads=False)
    found, _ = in_units(fused, [Prefill(prompt, []) for prompt in prompts], 13, model)
    assert_same(found, expected, tolerance)


@torch.inference_mode()
def test_a_unit_has_no_more_places_with_padding_than_tokens(text_model: Any) -> None:
    prefills = [Prefill(prompt_of(length, length), []) for length in (4, 5, 30, 3)]
    for way in (LayersPrefill(text_model), FusedPrefill(FusedLayers(text_model), pads=True)):
        assert [part.count for part in way.choose(prefills, 64)] == [4, 5]
        assert [part.count for part in way.choose(prefills, 120)] == [4, 5, 30, 3]


@torch.inference_mode()
def test_prompts_that_have_begun_are_not_padded(text_model: Any) -> None:
    fused = FusedPrefill(FusedLayers(text_model), pads=True)
    prefills = [Prefill(prompt_of(length, length), []) for length in (20, 5, 4)]
    fused.run(PrefillUnit.of(fused.choose(prefills, 13), text_model.get_input_embeddings()))
    assert [part.count for part in fused.choose(prefills, 16)] == [7, 5, 4]
    assert [part.count for part in fused.choose([*prefills[1:], prefills[0]], 16)] == [5, 4, 7]
    assert [part.count for part in fused.choose([*prefills[1:], prefills[0]], 9)] == [5]


@pytest.mark.skipif(not hasattr(torch.ops.onednn, "qlinear_prepack"), reason="torch has no oneDNN")
@pytest.mark.parametrize(
    ("dtype", "eight_bits", "tolerance"),
    [(torch.bfloat16, False, 0.1), (torch.float16, False, 0.02), (torch.float32, True, 0.1)],
    ids=["bfloat16", "float16", "eight bits"],
)
@torch.inference_mode()
def test_other_dtypes_agree_within_their_rounding(
    text_model: Any, dtype: torch.dtype, eight_bits: bool, tolerance: float
) -> None:
    model = type(text_model)(text_model.config).eval()
    model.load_state_dict(text_model.state_dict())
    model.to(dtype)
    if eight_bits:
        quantize(model)
    prompts = [prompt_of(20, 1), prompt_of(9, 2)]
    expected = [alone(LayersPrefill(model), prompt, model) for prompt in prompts]
    prefills = [Prefill(prompt, []) for prompt in prompts]
    found, _ = in_units(FusedPrefill(FusedLayers(model), pads=False), prefills, 16, model)
    for one, other in zip(found, expected, strict=True):
        assert agreement.difference(one.logits, other.logits) < tolerance


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [5, 16, 1000])
@pytest.mark.parametrize("kind", ["image", "video", "both"])
@pytest.mark.parametrize("pads", [False, True])
def test_media_and_their_deepstack_features_get_to_their_tokens(
    loaded: Any, own_layers: Any, make_request: Any, kind: str, tokens: int, pads: bool
) -> None:
    arrange(loaded.model, max_rows=8, threads=1)
    encoder = MediaEncoder(own_layers.model, max_bytes=2**28)
    maker = PromptMaker(own_layers, max_context_tokens=4096)
    prompts = [maker.make(make_request(kind)), maker.make(make_request("text")), maker.make(make_request(kind))]

    def prefills() -> list[Prefill]:
        made = [Prefill(prompt, []) for prompt in prompts]
        for prefill in made:
            prefill.encoded = dict(enumerate(encoder.encode(prefill.prompt.pieces)))
        return made

    fused, layers = FusedPrefill(FusedLayers(loaded.model), pads=pads), LayersPrefill(own_layers.model)
    found, _ = in_units(fused, prefills(), tokens, loaded.model)
    expected, _ = in_units(layers, prefills(), 1000, own_layers.model)
    assert_same(found, expected, tolerance=1e-3)


def prefiller_of(model: Any) -> Prefiller:
    loaded: Any = SimpleNamespace(model=model, has_media=False, device=torch.device("cpu"), quantization="none")
    encoder: Any = None
    return Prefiller(loaded, fused_layers(model), prefixes=PrefixCache(max_tokens=64), encoder=encoder, chunk_tokens=16)


def test_the_fused_layers_are_used_where_they_agree(text_model: Any) -> None:
    assert isinstance(prefiller_of(text_model)._pass, FusedPrefill)


@pytest.mark.parametrize("share", [0.01, float("nan")])
def test_fused_layers_that_differ_are_not_used(
    text_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    logits = FusedLayers.logits
    monkeypatch.setattr(
        FusedLayers, "logits", lambda self, states: logits(self, states) * (1 + share * torch.randn(90))
    )
    assert isinstance(prefiller_of(text_model)._pass, LayersPrefill)
    assert "the fused prefill differs by" in caplog.text


def test_fused_layers_that_raise_an_error_are_not_used(
    text_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(FusedLayer, "project", fail)
    assert isinstance(prefiller_of(text_model)._pass, LayersPrefill)
    assert "the fused prefill cannot be used: not implemented for 'Half'" in caplog.text


def test_a_model_of_another_make_is_prefilled_through_its_own_layers() -> None:
    torchvision_compat.declare_missing_operators()
    config = transformers.LlamaConfig(
        vocab_size=90,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        hidden_act="gelu",
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert isinstance(prefiller_of(model)._pass, LayersPrefill)
