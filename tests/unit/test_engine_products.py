from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import arrangement, products
from inference.engine.arrangement import arrange
from inference.engine.engine import Engine
from inference.engine.loading import load_model
from inference.engine.products import Form, JoinedProduct, PackedProduct, make_product, usable_forms
from inference.tiny_models.text import build_tiny_text_model

FORMS = usable_forms(torch.float32)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Any:
    """always(form) skips the measurements."""
    return lambda form: monkeypatch.setattr(arrangement, "fastest", lambda timings: form)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 3, 8, 40])
@pytest.mark.parametrize("biased", [False, True])
def test_every_form_gives_the_product_of_a_linear_layer(
    form: Form, dtype: torch.dtype, rows: int, biased: bool
) -> None:
    if form not in usable_forms(dtype):
        pytest.skip(f"this torch has no {form} product in {dtype}")
    linear = torch.nn.Linear(48, 80, bias=biased, dtype=dtype).requires_grad_(False)
    states, hidden = torch.randn(2, rows, 48, dtype=dtype), torch.randn(rows, 80, dtype=dtype)
    product = make_product(form, linear.weight, linear.bias)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(product(states), linear(states), rtol=0, atol=tolerance)
    added = product.added_to(hidden, states[0])
    torch.testing.assert_close(added, hidden + linear(states[0]), rtol=0, atol=tolerance)


def test_layers_of_the_same_input_are_computed_once_and_then_released() -> None:
    calls = []

    def double(states: torch.Tensor) -> torch.Tensor:
        calls.append(len(states))
        return torch.cat((states, states, states), dim=-1) * torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])

    joined = JoinedProduct(double, [2, 2, 2])  # type: ignore[arg-type]
    some, others = torch.ones(1, 2), torch.zeros(3, 2)
    assert [joined.part(number, some).tolist() for number in range(3)] == [[[1, 1]], [[2, 2]], [[3, 3]]]
    assert calls == [1]
    joined.part(0, some)
    assert joined.part(1, others).shape == (3, 2)
    assert calls == [1, 1, 3]
    joined.part(2, others)
    assert (joined._given, joined._outputs) == (None, ())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["text", "both"])
def test_every_form_gives_the_text_of_the_models_own_layers(
    tiny_model: Path, own_layers: Any, start_engine: Any, make_request: Any, collect: Any, always: Any, form: Form,
    kind: str,
) -> None:  # fmt: skip
    class Quantized(type(own_layers.model)):  # type: ignore[misc]
        """Models that look quantized keep their layers."""

        quantization_method = "none"

    always(form)
    request = make_request(kind, max_tokens=60)
    arranged, plain = (load_model(str(tiny_model), dtype="float32", device_map="cpu") for _ in range(2))
    plain.model.__class__ = Quantized
    expected = collect(start_engine(plain).submit(request)).ids
    engine = start_engine(arranged)
    assert collect(engine.submit(request)).ids == expected
    assert f"41 {form}" in engine.stats().device
    assert "products" not in start_engine(plain).stats().device


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_is_held_once(tiny_model: Path, always: Any, form: Form) -> None:
    always(form)
    loaded = load_model(str(tiny_model), dtype="float32", device_map="cpu")
    Engine(loaded, max_batch_size=2)
    linears = [module for module in loaded.model.modules() if type(module) is torch.nn.Linear]
    assert linears == []
    layer = loaded.model.get_decoder().layers[0]
    assert layer.self_attn.q_proj.joined is layer.self_attn.v_proj.joined
    assert not list(layer.self_attn.k_proj.parameters())


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_an_output_layer_that_shares_the_embedding_stays(tmp_path: Path, always: Any, architecture: Any) -> None:
    always(Form.TRANSPOSED)
    loaded = load_model(str(build_tiny_text_model(tmp_path / "text", architecture=architecture)), device_map="cpu")
    loaded.model.lm_head.weight = loaded.model.get_input_embeddings().weight
    arrange(loaded.model, max_rows=1, threads=1)
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight


def test_a_model_is_arranged_once(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = arrange(loaded.model, max_rows=8, threads=1)
    monkeypatch.setattr(arrangement, "measure", lambda *arguments: pytest.fail("measured again"))
    assert arrange(loaded.model, max_rows=2, threads=2) == first
    assert first.startswith("products: ")


def test_a_torch_that_cannot_pack_says_so_and_uses_the_other_forms(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Any, *arguments: Any) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    caplog.set_level("INFO", logger=products.__name__)
    monkeypatch.setattr(PackedProduct, "__init__", refuse)
    assert usable_forms(torch.float32) == (Form.PLAIN, Form.TRANSPOSED)
    assert "packs no weights of torch.float32 on this CPU: '_OpNamespace'" in caplog.text


def test_a_whole_weight_that_is_refused_stays_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, always: Any
) -> None:
    def refuse(form: Form, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        if form is not Form.PLAIN:
            raise RuntimeError("could not create a primitive")
        return make_product(form, weight, bias)

    always(Form.TRANSPOSED)
    monkeypatch.setattr(arrangement, "make_product", refuse)
    loaded = load_model(str(build_tiny_text_model(tmp_path / "text")), device_map="cpu")
    chosen = arrange(loaded.model, max_rows=8, threads=1)
    assert " plain" in chosen and "transposed" not in chosen
    assert "stays plain, because it cannot be transposed: could not create a primitive" in caplog.text


def test_the_log_has_the_choice_and_its_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture, always: Any) -> None:
    caplog.set_level("INFO", logger=arrangement.__name__)
    always(Form.TRANSPOSED)
    loaded = load_model(str(build_tiny_text_model(tmp_path / "text")), device_map="cpu")
    arrange(loaded.model, max_rows=8, threads=1)
    line = next(line for line in caplog.messages if "128→" in line)
    assert "products 128→" in line and "are transposed: 1 row: plain " in line and "; 8 rows: plain " in line
    assert "16 rows" not in line
