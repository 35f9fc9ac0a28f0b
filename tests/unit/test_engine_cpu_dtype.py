from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import cpu_dtype
from inference.engine.cpu_dtype import dtype_beside_bytes, fastest_dtype
from inference.engine.loading import load_model
from inference.engine.start import facts_of

#: its weights are stored in bfloat16
READER = Path(__file__).resolve().parents[2] / "models" / "ktp-reader"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """timed(bfloat16=…, float32=…): milliseconds of products of 1, 8 and 128 rows"""

    def set_times(**times: tuple[float, float, float]) -> None:
        def seconds(counts: Any, dtype: torch.dtype, threads: int) -> Any:
            return dict(zip((1, 8, 128), times[str(dtype).removeprefix("torch.")], strict=True))

        monkeypatch.setattr(cpu_dtype, "_seconds", seconds)

    return set_times


class Model(torch.nn.Module):
    """24 parameters of an embedding, 72 of a layer, 24 of an output layer"""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(3, 8)
        self.linear = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 3, bias=False)

    def get_decoder(self) -> Any:
        return torch.nn.ModuleList([self.linear])

    def get_input_embeddings(self) -> Any:
        return self.embedding

    def get_output_embeddings(self) -> Any:
        return self.head


def chosen(stored: torch.dtype = torch.bfloat16, **kept: Any) -> torch.dtype:
    return fastest_dtype(Model(), stored, threads=1, **kept)


def test_the_dtype_that_is_faster_on_the_whole_is_chosen_and_logged(
    timed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=cpu_dtype.__name__)
    # As without AVX-512: half the bytes for one row, and slow arithmetic for many.
    timed(bfloat16=(10, 25, 500), float32=(19, 20, 100))
    assert chosen() == torch.float32
    # As with AMX.
    timed(bfloat16=(10, 11, 20), float32=(19, 40, 100))
    assert chosen() == torch.bfloat16
    assert "are torch.bfloat16 on this CPU" in caplog.messages[-1]
    assert "1 row: 10000.00 and 19000.00 ms; 8 rows: 11000.00 and 40000.00 ms" in caplog.messages[-1]


def test_near_a_tie_it_is_float32_on_every_worker(timed: Any) -> None:
    timed(bfloat16=(9, 9, 9), float32=(10, 10, 10))
    assert chosen() == torch.float32


def test_weights_are_never_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_dtype, "_seconds", lambda *arguments: pytest.fail("measured"))
    assert chosen(torch.float32) == torch.float32


def test_a_dtype_that_does_not_fit_into_memory_is_not_chosen(
    timed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=cpu_dtype.__name__)
    timed(bfloat16=(10, 25, 500), float32=(1, 1, 1))
    monkeypatch.setattr(cpu_dtype, "total_host_bytes", lambda: 120 * 4)
    assert chosen() == torch.bfloat16
    assert "in float32 they would take" in caplog.text
    monkeypatch.setattr(cpu_dtype, "total_host_bytes", lambda: 120 * 4 * 2)
    assert chosen() == torch.float32


def test_a_choice_stays_the_same_at_the_next_start(timed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept_in = tmp_path / "choices"
    timed(bfloat16=(10, 10, 10), float32=(20, 20, 20))
    assert chosen(revision="a", kept_in=kept_in) == torch.bfloat16
    # As when something else kept the CPU busy.
    timed(bfloat16=(30, 30, 30), float32=(20, 20, 20))
    assert chosen(revision="a", kept_in=kept_in) == torch.bfloat16
    assert chosen(revision="b", kept_in=kept_in) == torch.float32
    monkeypatch.setattr(cpu_dtype, "_cpu_model", lambda: "another")
    assert chosen(revision="a", kept_in=kept_in) == torch.float32
    assert len(list(kept_in.iterdir())) == 3


def test_of_workers_that_start_together_all_take_the_choice_of_the_first(
    timed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slower(counts: Any, stored: torch.dtype, threads: int) -> torch.dtype:
        monkeypatch.undo()
        timed(bfloat16=(10, 10, 10), float32=(20, 20, 20))
        assert chosen(kept_in=tmp_path) == torch.bfloat16
        return torch.float32

    monkeypatch.setattr(cpu_dtype, "_measured", slower)
    assert chosen(kept_in=tmp_path) == torch.bfloat16
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_replaced(timed: Any, tmp_path: Path) -> None:
    timed(bfloat16=(10, 10, 10), float32=(20, 20, 20))
    assert chosen(kept_in=tmp_path) == torch.bfloat16
    (kept,) = tmp_path.iterdir()
    whole = kept.read_text()
    for damaged in ("", "[]", '{"choice": "float64"}'):
        kept.write_text(damaged)
        assert chosen(kept_in=tmp_path) == torch.bfloat16
        assert list(tmp_path.iterdir()) == [kept]
        assert kept.read_text() == whole


def test_where_nothing_can_be_written_the_choice_is_measured_at_every_start(
    timed: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    timed(bfloat16=(10, 10, 10), float32=(20, 20, 20))
    assert chosen(kept_in=blocked) == torch.bfloat16
    assert "is not kept for the next start" in caplog.text


def test_beside_bytes_it_is_float32_where_the_wide_rest_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_dtype, "_seconds", lambda *arguments: pytest.fail("measured"))
    # 64 + 24 bytes; a bias of 8 and the embedding four bytes wide. A shared output layer is there in bytes too.
    shared = Model()
    shared.head.weight = shared.embedding.weight
    for model in (Model(), shared):
        monkeypatch.setattr(cpu_dtype, "total_host_bytes", lambda: (88 + 32 * 4) / 0.6 + 1)
        assert dtype_beside_bytes(model, torch.bfloat16) == torch.float32
        monkeypatch.setattr(cpu_dtype, "total_host_bytes", lambda: (88 + 32 * 4) / 0.6 - 1)
        assert dtype_beside_bytes(model, torch.bfloat16) == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_auto_loads_what_was_chosen_and_the_fingerprint_says_so(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, start_engine: Any
) -> None:
    stored = []

    def choose(model: Any, found: torch.dtype, **others: Any) -> torch.dtype:
        stored.append(found)
        return dtype

    monkeypatch.setattr("inference.engine.loading.fastest_dtype", choose)
    loaded = load_model(str(READER), device_map="cpu")
    assert stored == [torch.bfloat16]
    assert {weight.dtype for weight in loaded.model.parameters()} == {dtype}
    assert facts_of(loaded, start_engine(loaded)).dtype == str(dtype).removeprefix("torch.")


def test_a_dtype_given_by_name_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engine.loading.fastest_dtype", lambda *a, **k: pytest.fail("measured"))
    assert load_model(str(READER), dtype="bfloat16", device_map="cpu").dtype == "bfloat16"


def test_what_is_measured_are_the_products_of_the_decoder(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=cpu_dtype.__name__)
    assert load_model(str(READER), device_map="cpu", torch_threads=1).dtype in ("float32", "bfloat16")
    assert "products of a step in torch.bfloat16 and float32: 1 row: " in caplog.text
