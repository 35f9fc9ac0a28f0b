from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.arrangement import quantize
from inference.engine.errors import LoadError
from inference.engine.int8 import Int8Product, fastest_states
from inference.engine.loading import load_model
from inference.engine.products import PartLinear, ProductLinear
from inference.engine.start import facts_of
from inference.tiny_models.text import build_tiny_text_model

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.onednn, "qlinear_prepack"), reason="torch has no oneDNN")


@pytest.fixture
def not_known_yet() -> Iterator[None]:
    """Which states are the fastest is found out again."""
    fastest_states.cache_clear()
    yield
    fastest_states.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1,), (8,), (3, 40)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_of_bytes_is_near_the_exact_one(dtype: torch.dtype, shape: tuple[int, ...], biased: bool) -> None:
    linear = torch.nn.Linear(96, 64, bias=biased, dtype=dtype).requires_grad_(False)
    product = Int8Product(linear.weight, linear.bias)
    states = torch.randn(*shape, 96, dtype=dtype)
    expected = linear(states)
    found = product(states)
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    assert ((found - expected).norm() / expected.norm()).item() < 0.02
    hidden = torch.randn(5, 64, dtype=dtype)
    added = product.added_to(hidden, torch.zeros(5, 96, dtype=dtype))
    torch.testing.assert_close(added, hidden if linear.bias is None else hidden + linear.bias)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    product = Int8Product(torch.randn(64, 96))
    states = torch.randn(17, 96)
    # With one scale for all rows this one would leave nothing of the others.
    states[3] *= 1000
    alone = torch.cat([product(states[row : row + 1]) for row in range(len(states))])
    assert torch.equal(product(states), alone)


def test_a_model_in_eight_bits_answers(tiny_model: Path, start_engine: Any, make_request: Any, collect: Any) -> None:
    loaded = load_model(str(tiny_model), dtype="float32", device_map="cpu", quantization="8bit")
    engine = start_engine(loaded)
    result = collect(engine.submit(make_request("both", max_tokens=20, ignore_eos=True)))
    assert len(result.ids) == 20
    assert "41 int8" in engine.stats().device
    assert facts_of(loaded, engine).quantization in ("8bit-cpu, states of 8 bits", "8bit-cpu, states of 7 bits")
    on_a_gpu = dataclasses.replace(loaded, device=torch.device("cuda"))
    assert facts_of(on_a_gpu, engine).quantization == "8bit"
    replaced = [module for module in loaded.model.modules() if isinstance(module, ProductLinear | PartLinear)]
    products = [module.joined.product if isinstance(module, PartLinear) else module.product for module in replaced]
    assert {type(product) for product in products} == {Int8Product}
    # One answer beside others is the one it would be alone.
    handles = [engine.submit(make_request("text", text=text, max_tokens=12)) for text in ("Apa?", "Siapa kamu ini?")]
    together = [collect(handle).ids for handle in handles]
    assert together == [
        collect(engine.submit(make_request("text", text=text, max_tokens=12))).ids
        for text in ("Apa?", "Siapa kamu ini?")
    ]


def test_an_output_layer_that_shares_the_embeddings_weight_gets_bytes_of_its_own(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), dtype="float32", device_map="cpu")
    embedding = loaded.model.get_input_embeddings().weight
    loaded.model.lm_head.weight = embedding
    states = torch.randn(3, embedding.shape[1])
    expected = loaded.model.lm_head(states)
    quantize(loaded.model)
    assert isinstance(loaded.model.lm_head.product, Int8Product)
    assert loaded.model.get_input_embeddings().weight is embedding
    assert ((loaded.model.lm_head(states) - expected).norm() / expected.norm()).item() < 0.02


def test_a_large_weight_is_rounded_in_parts_and_gives_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, states = torch.randn(65, 96), torch.randn(5, 96)
    whole = Int8Product(weight)(states)
    monkeypatch.setattr("inference.engine.int8._PART", 10 * 96)
    assert torch.equal(Int8Product(weight)(states), whole)


def test_weights_become_bytes_from_the_dtype_in_which_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Path(__file__).resolve().parents[2] / "models" / "ktp-reader"
    seen: set[torch.dtype] = set()
    begin = Int8Product.__init__

    def note(self: Any, weight: torch.Tensor, bias: Any = None, states: Any = None) -> None:
        seen.add(weight.dtype)
        begin(self, weight, bias, states)

    fastest_states()  # It makes products of its own, once.
    monkeypatch.setattr(Int8Product, "__init__", note)
    loaded = load_model(str(reader), dtype="float32", device_map="cpu", quantization="8bit")
    assert seen == {torch.bfloat16}
    assert loaded.dtype == "float32"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}


def test_the_angles_of_positions_keep_their_precision(tiny_model: Path) -> None:
    exact = load_model(str(tiny_model), dtype="float32", device_map="cpu").model
    loaded = load_model(str(tiny_model), dtype="bfloat16", device_map="cpu", quantization="8bit")
    expected = dict(exact.named_buffers())
    assert sum(name.endswith("inv_freq") for name in expected) >= 2
    for name, found in loaded.model.named_buffers():
        assert found.dtype is torch.float32, name
        assert torch.equal(found, expected[name]), name
    assert loaded.dtype == "bfloat16"
    assert loaded.model.config.dtype is torch.bfloat16
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}


def test_the_states_beside_bytes_are_float32_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engine.loading.fastest_dtype", lambda *a, **k: pytest.fail("measured"))
    reader = Path(__file__).resolve().parents[2] / "models" / "ktp-reader"
    assert load_model(str(reader), device_map="cpu", quantization="8bit").dtype == "float32"


@pytest.mark.usefixtures("not_known_yet")
def test_a_torch_without_products_of_bytes_is_named(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    def refuse(self: Any, *arguments: Any, **states: Any) -> None:
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'\nmore")

    monkeypatch.setattr(Int8Product, "__init__", refuse)
    with pytest.raises(LoadError, match=r"this torch cannot do on this CPU: '_OpNamespace' 'onednn'.*prepack'\.$"):
        load_model(str(tiny_model), device_map="cpu", quantization="8bit")


@pytest.mark.usefixtures("not_known_yet")
def test_wrong_products_of_bytes_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Int8Product.__call__
    monkeypatch.setattr(Int8Product, "__call__", lambda self, states: right(self, states) * 0.9)
    with pytest.raises(LoadError, match="products with bytes are wrong"):
        fastest_states()


def test_a_model_of_another_make_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_text_model(tmp_path / "text", architecture="llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    with pytest.raises(LoadError, match="dense Qwen3-VL, Qwen and Llama models only"):
        load_model(str(folder), device_map="cpu", quantization="8bit")
