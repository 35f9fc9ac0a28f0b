from __future__ import annotations

import functools
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import product_choice
from inference.engine.product_choice import ROUNDS, Shape, fastest, measure
from inference.engine.products import DenseProduct, Form, make_product, usable_forms

FORMS = usable_forms(torch.float32)


def test_the_form_is_the_fastest_on_the_whole_and_the_simplest_of_equals() -> None:
    def timings(**forms: tuple[float, ...]) -> Any:
        rows = (1, 8, 16, 32, 128)
        return {Form(name): dict(zip(rows, seconds, strict=True)) for name, seconds in forms.items()}

    # One row with a small matrix loses by packing what eight win.
    assert fastest(timings(plain=(153, 360, 400, 500, 900), packed=(220, 200, 210, 300, 800))) == Form.PACKED
    assert fastest(timings(plain=(153, 360, 400, 500, 900), packed=(900, 200, 210, 300, 800))) == Form.PLAIN
    assert fastest(timings(plain=(100, 100, 100, 100, 100), transposed=(97, 97, 97, 97, 97))) == Form.PLAIN
    assert fastest(timings(plain=(9, 9, 9, 9, 9), transposed=(5, 5, 5, 5, 5), packed=(4, 4, 4, 4, 4))) == Form.PACKED


@pytest.fixture
def cores_free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """cores_free(False): as if other programs used the cores"""

    def make(free: bool) -> None:
        monkeypatch.setattr(product_choice, "cores_are_free", functools.cache(lambda threads: free))

    make(True)
    return make


@pytest.mark.parametrize("free", [True, False])
def test_a_measurement_covers_the_rows_and_leaves_torchs_threads(
    monkeypatch: pytest.MonkeyPatch, cores_free: Any, free: bool
) -> None:
    threads = torch.get_num_threads()
    seen = set()
    cores_free(free)

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        seen.add((torch.get_num_threads(), clock))
        return float(len(states))

    monkeypatch.setattr(product_choice, "_timed", timed)
    found = measure.__wrapped__(Shape(64, 32, torch.float32), 3, (1, 128), FORMS, 2)
    assert {form: list(seconds) for form, seconds in found.items()} == {form: [1, 128] for form in FORMS}
    # All threads by the clock on the wall, or one by its own processor time.
    assert seen == {(2, time.perf_counter) if free else (1, time.thread_time)}
    assert torch.get_num_threads() == threads


def test_a_whole_weight_is_measured_where_the_cores_are_free(monkeypatch: pytest.MonkeyPatch, cores_free: Any) -> None:
    outputs = set()

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        outputs.add(products[0](states).shape[1])
        return float(passes * len(products))

    monkeypatch.setattr(product_choice, "_timed", timed)
    found = measure.__wrapped__(Shape(64, 32, torch.float32), 3, (1, 8), FORMS, 4)
    assert outputs == {64}
    assert {second for seconds in found.values() for second in seconds.values()} == {1.0}


@pytest.mark.parametrize(
    ("slow", "free"), [(0, True), (9, True), (20, False), (100, False)], ids=["none", "few", "a fifth", "changing"]
)
def test_cores_are_free_when_nearly_all_products_take_as_long_as_the_fastest(
    monkeypatch: pytest.MonkeyPatch, slow: int, free: bool
) -> None:
    seconds = iter([1.0 + (3.0 if number < slow else 0.0) * (number % 100 + 1) for number in range(100)])
    monkeypatch.setattr(product_choice, "_timed", lambda *arguments: next(seconds))
    assert product_choice.cores_are_free.__wrapped__(2) is free


@pytest.mark.parametrize(("free", "expected_rounds"), [(True, 1), (False, ROUNDS)])
def test_only_a_measurement_with_all_threads_is_cut_short(
    monkeypatch: pytest.MonkeyPatch, cores_free: Any, free: bool, expected_rounds: int
) -> None:
    cores_free(free)
    timings = 0

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        nonlocal timings
        timings += 1
        return 1.0

    monkeypatch.setattr(product_choice, "_timed", timed)
    monkeypatch.setattr(product_choice, "_MOST_SECONDS", 0.0)
    measure.__wrapped__(Shape(64, 32, torch.float32), 3, (1,), (Form.PLAIN, Form.TRANSPOSED), 2)
    # One to see how long it takes, and rounds with both forms.
    assert timings == 1 + 2 * expected_rounds


def test_when_another_program_takes_a_core_one_thread_is_measured_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, clocks = [True, False], list[Any]()

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        clocks.append(clock)
        return 1.0

    monkeypatch.setattr(product_choice, "cores_are_free", functools.cache(lambda threads: looks.pop(0)))
    monkeypatch.setattr(product_choice, "_timed", timed)
    monkeypatch.setattr(product_choice, "_MOST_SECONDS", 0.0)
    for size in (64, 96):
        measure.__wrapped__(Shape(size, 32, torch.float32), 3, (1,), (Form.PLAIN,), 2, rounds=3)
    # One to see how long it takes, and one round of three; then whole measurements.
    assert clocks == [time.perf_counter] * 2 + [time.thread_time] * 8
    assert not looks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_right_forms_differ_by_rounding_only(dtype: torch.dtype) -> None:
    forms = usable_forms(dtype)
    assert tuple(measure.__wrapped__(Shape(768, 2048, dtype), 1, (1, 8, 128), forms, 1)) == forms


@pytest.fixture
def with_transposed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """with_transposed(change): transposed products return change(product)"""

    def replace(change: Any) -> None:
        class Changed(DenseProduct):
            def __call__(self, states: torch.Tensor) -> torch.Tensor:
                product: torch.Tensor = change(super().__call__(states))
                return product

        def make(form: Form, weight: torch.Tensor) -> Any:
            return Changed(weight) if form is Form.TRANSPOSED else make_product(form, weight)

        monkeypatch.setattr(product_choice, "make_product", make)

    return replace


@pytest.mark.parametrize("wrong", [1.5, float("nan")])
def test_a_form_that_is_wrong_for_some_rows_is_not_used(
    with_transposed: Any, caplog: pytest.LogCaptureFixture, wrong: float
) -> None:
    def one_wrong_number(product: torch.Tensor) -> torch.Tensor:
        if len(product) == 8:
            product[5, 7] = wrong
        return product

    with_transposed(one_wrong_number)
    shape, forms = Shape(64, 32, torch.float32), (Form.PLAIN, Form.TRANSPOSED)
    assert tuple(measure.__wrapped__(shape, 2, (1, 128), forms, 1)) == forms
    assert tuple(measure.__wrapped__(shape, 2, (1, 8, 128), forms, 1)) == (Form.PLAIN,)
    assert "transposed products 32→64 in torch.float32 are wrong for 8 rows" in caplog.text


def test_a_form_that_raises_for_a_shape_is_not_used(with_transposed: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(product: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("could not create a primitive\nmore")

    with_transposed(refuse)
    found = measure.__wrapped__(Shape(64, 32, torch.float32), 2, (1, 8), (Form.PLAIN, Form.TRANSPOSED), 1)
    assert tuple(found) == (Form.PLAIN,)
    assert caplog.messages == [
        "there are no transposed products 32→64 in torch.float32 on this CPU: could not create a primitive"
    ]


def test_threads_share_a_row_in_the_forms_in_which_torch_computes_it_with_all(
    monkeypatch: pytest.MonkeyPatch, cores_free: Any
) -> None:
    cores_free(False)

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        return float(passes * len(products))

    monkeypatch.setattr(product_choice, "_timed", timed)
    monkeypatch.setattr(product_choice, "shares_one_row", lambda form, dtype, threads: form is Form.PACKED)
    found = measure.__wrapped__(Shape(64, 32, torch.float32), 10_000, (1, 8), FORMS, 4)
    # A quarter of the outputs takes a second.
    assert found[Form.PLAIN] == {1: 4.0, 8: 1.0}
    assert found.get(Form.PACKED, {1: 1.0, 8: 1.0}) == {1: 1.0, 8: 1.0}


def test_one_thread_shares_everything_with_itself() -> None:
    assert all(product_choice.shares_one_row(form, torch.float32, 1) for form in FORMS)


@pytest.mark.parametrize(("model_bytes", "copies"), [(2**13, 1), (2**20, 128), (2**40, 2 * 2**20 // 2**13)])
def test_weights_take_turns_as_many_as_the_model_or_the_caches_hold(
    monkeypatch: pytest.MonkeyPatch, model_bytes: int, copies: int
) -> None:
    counts: dict[int, set[int]] = {}

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        counts.setdefault(len(states), set()).add(len(products))
        return 1.0

    monkeypatch.setattr(product_choice, "_timed", timed)
    monkeypatch.setattr(product_choice, "last_level_cache_bytes", lambda: 2**20)
    measure.__wrapped__(Shape(64, 32, torch.float32), model_bytes, (1, 128), FORMS, 1)
    # Many rows are bound by arithmetic.
    assert counts == {1: {copies}, 128: {max(1, copies // 4)}}


def start_a_thread_that_ends() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


@pytest.mark.parametrize("compute", [lambda: None, start_a_thread_that_ends])
def test_what_starts_no_thread_that_stays_is_not_shared(compute: Any) -> None:
    if not product_choice._TASKS.exists():
        pytest.skip("this system does not list a process's threads")
    assert not all(product_choice._starts_helpers(compute) for _ in range(20))


def test_what_starts_a_thread_is_shared() -> None:
    ended = threading.Event()
    assert product_choice._starts_helpers(lambda: threading.Thread(target=ended.wait, args=[20]).start())
    ended.set()


@pytest.mark.parametrize(
    ("sizes", "found"), [(["32K", "1024K"], 2**20), (["512K", "262144K"], 2**25), (["", "large"], 2**25), ([], 2**25)]
)
def test_the_last_level_cache_is_the_largest_that_the_system_tells_of_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[str], found: int
) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    monkeypatch.setattr(product_choice, "_CACHES", tmp_path)
    assert product_choice.last_level_cache_bytes.__wrapped__() == found


def test_small_shares_of_a_large_model_are_few(monkeypatch: pytest.MonkeyPatch, cores_free: Any) -> None:
    cores_free(False)
    seen: set[int] = set()

    def timed(products: Any, states: torch.Tensor, passes: int, clock: Any) -> float:
        seen.add(len(products))
        return 1.0

    monkeypatch.setattr(product_choice, "_timed", timed)
    measure.__wrapped__(Shape(96, 160, torch.float32), 2**30, (8,), FORMS, 16)
    assert seen == {256}
