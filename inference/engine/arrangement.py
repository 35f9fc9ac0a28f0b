"""Puts the weights of a model on a CPU into the forms that are fastest there."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from inference.engine.errors import LoadError
from inference.engine.fused_layers import check_architecture
from inference.engine.int8 import Int8Product, fastest_states
from inference.engine.patch_embedding import replace_patch_embedding
from inference.engine.product_choice import DECODE_ROWS, PREFILL_ROWS, Shape, Timings, fastest, measure
from inference.engine.products import (
    DTYPES,
    Form,
    JoinedProduct,
    PartLinear,
    Product,
    ProductLinear,
    joined_weight,
    make_product,
    usable_forms,
)

logger = logging.getLogger(__name__)

#: linear layers of one module that are given the same input
_SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

#: one or several linear layers of a module, by name, that become one product
_Group = tuple[torch.nn.Module, tuple[str, ...]]
#: (weight, bias) → product
_Maker = Callable[[torch.Tensor, torch.Tensor | None], Product]


def arrange(model: Any, *, max_rows: int, threads: int | None) -> str:
    """Measure the forms of every shape of weight in ``model``, and hold each weight in the best one only.

    The vision tower's first layer becomes a product, see ``PatchEmbedding``; on a GPU nothing else is done.

    Nothing is done for a quantized model, for one of another architecture (its layers may use their weights in ways of
    their own), and for one that is arranged already. ``threads`` is the number that torch will have. Returns what was
    chosen, for display: "products: 48 transposed, 9 packed".
    """
    done: str | None = getattr(model, "_sambung_products", None)
    if done is not None:
        return done
    groups = {}
    if _is_known(model):
        groups = _by_shape(model)
        replace_patch_embedding(model)
    _return_freed_memory()
    counts: dict[str, int] = dict.fromkeys(Form, 0)
    model_bytes = sum(len(members) * shape.nbytes for (shape, _), members in groups.items())
    for (shape, decodes), members in groups.items():
        steps = tuple(rows for rows in DECODE_ROWS if decodes and rows <= max_rows)
        rows = (*steps, PREFILL_ROWS)
        timings = measure(shape, model_bytes, rows, usable_forms(shape.dtype), threads or torch.get_num_threads())
        form = fastest(timings)
        logger.info("%d products %s in %s are %s: %s", len(members), shape, shape.dtype, form, _table(timings))
        _replace_all(members, functools.partial(_counted_product, counts, form))
    counts = {**counts, "int8": getattr(model, "_sambung_int8", 0)}
    chosen = ", ".join(f"{count} {form}" for form, count in counts.items() if count)
    model._sambung_products = f"products: {chosen}" if chosen else ""
    return model._sambung_products


def quantize(model: Any) -> None:
    """Hold the weights of ``model``, which is on a CPU, as bytes.

    An output layer that shares its weight with the embedding gets bytes of its own: the embedding reads single rows.
    Raises LoadError for another architecture, and where torch cannot do it.
    """
    fastest_states()
    if not _is_known(model):
        raise LoadError("quantization is '8bit', which on a CPU is for dense Qwen3-VL, Qwen and Llama models only.")
    members = [member for group in _by_shape(model, with_shared=True).values() for member in group]
    _replace_all(members, Int8Product)
    model._sambung_int8 = len(members)


def _is_known(model: Any) -> bool:
    try:
        check_architecture(model)
    except (ValueError, AttributeError):
        return False
    return True


def _counted_product(
    counts: dict[str, int], form: Form, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> Product:
    """In that form. Of a large weight only a part was measured, so the whole may be refused: then it stays plain."""
    try:
        product = make_product(form, weight, bias)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        logger.warning("a weight of %s stays plain, because it cannot be %s: %s", tuple(weight.shape), form, reason)
        form = Form.PLAIN
        product = make_product(form, weight, bias)
    counts[form] += 1
    return product


def _table(timings: Timings) -> str:
    """``1 row: plain 153, packed 220 µs; 8 rows: …``"""
    rows = next(iter(timings.values()))
    return "; ".join(
        f"{number} row{'s' if number > 1 else ''}: "
        + ", ".join(f"{form} {1e6 * seconds[number]:.0f}" for form, seconds in timings.items())
        + " µs"
        for number in rows
    )


def _by_shape(model: Any, *, with_shared: bool = False) -> dict[tuple[Shape, bool], list[_Group]]:
    """The linear layers by shape, and by whether they take part in decode steps.

    An output layer that shares its weight with the embedding is left out, unless ``with_shared``.
    """
    decoder = set(model.get_decoder().modules()) | {model.get_output_embeddings()}
    embedding = model.get_input_embeddings().weight
    found: dict[tuple[Shape, bool], list[_Group]] = {}
    for owner in list(model.modules()):
        for names in _groups(owner):
            linears = [getattr(owner, name) for name in names]
            # The embedding reads single rows of its weight, so a layer that shares it cannot have it in another form.
            if any(linear.weight is embedding for linear in linears) and not with_shared:
                continue
            if not all(map(_is_arrangeable, linears)):
                continue
            outputs = sum(linear.out_features for linear in linears)
            shape = Shape(outputs, linears[0].in_features, linears[0].weight.dtype)
            found.setdefault((shape, linears[0] in decoder), []).append((owner, names))
    return found


def _groups(owner: torch.nn.Module) -> Iterator[tuple[str, ...]]:
    names = [name for name, child in owner.named_children() if type(child) is torch.nn.Linear]
    for shared in _SHARED_INPUT:
        linears = [getattr(owner, name) for name in shared if name in names]
        if len(linears) == len(shared) and len({(x.in_features, x.bias is None) for x in linears}) == 1:
            yield shared
            names = [name for name in names if name not in shared]
    for name in names:
        yield (name,)


def _is_arrangeable(linear: Any) -> bool:
    return linear.weight.device.type == "cpu" and linear.weight.dtype in DTYPES


def _replace_all(members: list[_Group], make: _Maker) -> None:
    for owner, names in members:
        _replace(owner, names, make)
        _return_freed_memory()


def _replace(owner: Any, names: Sequence[str], make: _Maker) -> None:
    """Hold the weights of these linear layers in what ``make`` makes of them, and drop the old ones."""
    linears = [getattr(owner, name) for name in names]
    if len(names) == 1:
        weight, bias = linears[0].weight.detach(), linears[0].bias
        product = make(weight, None if bias is None else bias.detach())
    else:
        product = make(*joined_weight(linears))
    joined = JoinedProduct(product, [linear.out_features for linear in linears])
    for number, name in enumerate(names):
        setattr(owner, name, ProductLinear(product) if len(names) == 1 else PartLinear(joined, number))


def _return_freed_memory() -> None:
    """glibc keeps freed weights for the thread that allocated them, and that thread loads no more."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
