from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from inference.engine import agreement, model_runner, torchvision_compat
from inference.engine.arrangement import quantize
from inference.engine.errors import LoadError
from inference.engine.fused_decoder import FusedDecoder
from inference.engine.fused_layers import fused_layers
from inference.engine.model_runner import ModelRunner, long_rows

COMMON: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def runner_of(
    kind: str,
    *,
    dtype: torch.dtype = torch.float32,
    compile_step: bool = False,
    eight_bits: bool = False,
    **config: Any,
) -> ModelRunner:
    torchvision_compat.declare_missing_operators()
    torch.manual_seed(1)
    settings = getattr(transformers, f"{kind}Config")(**{**COMMON, **config})
    model = transformers.AutoModelForCausalLM.from_config(settings).to(dtype).eval()
    if eight_bits:
        quantize(model)
    loaded: Any = SimpleNamespace(
        model=model, has_media=False, device=torch.device("cpu"), quantization="8bit" if eight_bits else "none"
    )
    return ModelRunner(loaded, fused_layers(model), max_rows=4, max_tokens=1000, compile_step=compile_step)


def is_fused(runner: ModelRunner) -> bool:
    return runner._step != runner._step_through_layers


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Llama", {}),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}}),
        ("Llama", {"head_dim": 16, "tie_word_embeddings": True}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 16}),
        ("Mistral", {"sliding_window": None}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_step_gives_the_logits_of_the_models_own_layers(kind: str, config: Any, dtype: torch.dtype) -> None:
    runner = runner_of(kind, dtype=dtype, **config)
    assert is_fused(runner)
    given = []
    with torch.inference_mode():
        for step in (runner._step, runner._step_through_layers):
            runner._step = step
            for row, length in enumerate((3, 20, 11)):
                states = torch.randn(2, 1, 4, length, config.get("head_dim", 8), generator=torch.manual_seed(row))
                runner.cache.insert(row, list(states.to(dtype)), 20)
            given.append([runner.decode([5, 6, 7], [3 + n, 20 + n, 11 + n], [0, 0, -2]).float() for n in range(3)])
    tolerance = 1e-4 if dtype == torch.float32 else 0.15
    for fused, own in zip(*given, strict=True):
        torch.testing.assert_close(fused / own.std(), own / own.std(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("lengths", [(3, 20, 11), (20, 3, 3), (3, 20, 20), (9, 9, 9)])
def test_a_long_row_attends_alone_and_gives_the_same_logits(
    lengths: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_runner, "_COST_ALONE", 0)
    runner, given, read = runner_of("Qwen3", head_dim=16), [], []
    with torch.inference_mode():
        for takes_rows_alone in (True, False):
            runner._takes_rows_alone = takes_rows_alone
            for row, length in enumerate(lengths):
                states = torch.randn(2, 1, 4, length, 16, generator=torch.manual_seed(row))
                runner.cache.insert(row, list(states), max(lengths))
            given.append([runner.decode([5, 6, 7], [n + length for length in lengths], [0] * 3) for n in range(3)])
            read.append((len(runner.cache.step.alone), runner.cache.step.span))
            runner.cache.release()
    torch.testing.assert_close(given[0], given[1], rtol=0, atol=1e-4)
    # Lengths of the last step; it reads the position that it writes, too.
    alone = {20: 2 if 11 in lengths else lengths.count(20), 9: 0}[max(lengths)]
    assert read == [(alone, sorted(lengths)[-1 - alone] + 3), (0, max(lengths) + 3)]


def test_rows_attend_alone_only_where_less_is_read() -> None:
    assert long_rows([60]) == []
    assert long_rows([60] * 8) == []
    assert long_rows([60, 2000, 60, 60]) == [1]
    # Two long rows cost less in one product than each alone beside nothing.
    assert long_rows([2000, 2000]) == []
    assert long_rows([60] * 28 + [500, 1000, 1500, 2000]) == [31, 30, 29, 28]
    assert long_rows([60, 100]) == []


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Llama", {"hidden_act": "gelu"}),
        ("Llama", {"attention_bias": True}),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}}),
        ("Granite", {"attention_multiplier": 0.3}),
        # It looks like the others and multiplies what they do not: only its logits tell.
        ("Granite", {"residual_multiplier": 0.8, "attention_multiplier": 8**-0.5}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_model_of_another_make_decodes_through_its_own_layers(kind: str, config: Any, dtype: torch.dtype) -> None:
    assert not is_fused(runner_of(kind, dtype=dtype, **config))


@pytest.mark.skipif(not hasattr(torch.ops.onednn, "qlinear_prepack"), reason="torch has no oneDNN")
@pytest.mark.parametrize(("eight_bits", "expected"), [(False, False), (True, True)])
def test_eight_bits_have_a_tolerance_of_their_own(
    monkeypatch: pytest.MonkeyPatch, eight_bits: bool, expected: bool
) -> None:
    """Where last bits differ, a state may be rounded to another number. Qwen3-VL-2B's configuration gives 0.024."""
    monkeypatch.setitem(agreement.TOLERANCE, torch.float32, 0.0)
    monkeypatch.setattr(FusedDecoder, "step", differing_by(0.02, FusedDecoder.step))
    assert is_fused(runner_of("Qwen3", head_dim=16, eight_bits=eight_bits)) is expected


@pytest.mark.skipif(not hasattr(torch.ops.onednn, "qlinear_prepack"), reason="torch has no oneDNN")
def test_a_step_that_is_wrong_is_not_taken_in_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FusedDecoder, "step", differing_by(0.5, FusedDecoder.step))
    assert not is_fused(runner_of("Qwen3", head_dim=16, eight_bits=True))


def differing_by(share: float, step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The step with logits that differ from its own by this share of their spread."""

    def differing(*arguments: Any) -> torch.Tensor:
        logits = step(*arguments)
        return logits + share * logits.std() * torch.randn(logits.shape, generator=torch.manual_seed(0))

    return differing


@pytest.mark.parametrize("kind", ["Gemma2", "Mistral"], ids=["in some layers", "in all layers"])
def test_a_model_that_attends_to_a_window_is_refused(kind: str) -> None:
    with pytest.raises(LoadError, match="window"):
        runner_of(kind, sliding_window=32)


def test_a_window_that_no_text_exceeds_is_none() -> None:
    assert runner_of("Mistral", sliding_window=256).cache.capacity == (0, 0)


def test_the_weights_are_held_once() -> None:
    runner = runner_of("Qwen3", head_dim=16)
    attention = runner._decoder.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()


# torch's compiler imports what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_where_torch_cannot_compile_the_step_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    runner = runner_of("Llama", compile_step=True)
    assert is_fused(runner)
    assert getattr(runner._step, "__func__", None) is FusedDecoder.step
    assert "cannot be taken" in caplog.text
