"""Products with a weight on a CPU, and the forms in which the weight may be held for them.

A weight is held in one form only. ``inference/engine/product_choice.py`` measures which one is fastest.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional

logger = logging.getLogger(__name__)


class Form(enum.StrEnum):
    """How a weight of [outputs, inputs] is held."""

    #: as in the checkpoint, row after row
    PLAIN = "plain"
    #: the same numbers, column after column: the BLAS library need not turn them around for a few rows
    TRANSPOSED = "transposed"
    #: in the blocks that oneDNN's kernels read
    PACKED = "packed"


class Product(Protocol):
    """A linear layer's arithmetic."""

    bias: torch.Tensor | None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """[..., inputs] → [..., outputs], with the bias if there is one."""
        ...

    def added_to(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """``hidden``, [rows, outputs], plus the product of ``states``, [rows, inputs], in a new tensor."""
        ...


class DenseProduct:
    """With an ordinary tensor, plain or transposed. The only product on a GPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias
        self._columns = weight.t()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, self.weight, self.bias)

    def added_to(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        product = torch.addmm(hidden, states, self._columns)
        return product if self.bias is None else product.add_(self.bias)


#: The blocks that are best for a few rows are as good for many, but not the other way round.
_PACKED_FOR_ROWS = 8


class PackedProduct:
    """With a weight in oneDNN's blocks, which only its own operators can read."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Raises RuntimeError or AttributeError where torch cannot pack this weight."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)
        self.bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")
        return product

    def added_to(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        return self(states).add_(hidden)


def make_product(form: Form, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """``weight``, [outputs, inputs], in that form; where possible without a copy."""
    if form is Form.PACKED:
        return PackedProduct(weight, bias)
    if form is Form.TRANSPOSED:
        weight = weight.t().contiguous().t()
    return DenseProduct(weight, bias)


class ProductLinear(torch.nn.Module):
    """Stands for a linear layer in a model, with a product of any form."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product
        self.bias = product.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.product(states)


class JoinedProduct:
    """One product for linear layers that are given the same input: query, key and value, or gate and up."""

    def __init__(self, product: Product, sizes: Sequence[int]) -> None:
        """``sizes`` are the outputs of the parts."""
        self.product = product
        self._sizes = list(sizes)
        self._given: torch.Tensor | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()

    def part(self, number: int, states: torch.Tensor) -> torch.Tensor:
        """The output of one layer. The first of them computes all; the last releases them. Not thread-safe."""
        if self._given is not states:
            self._given, self._outputs = states, self.product(states).split(self._sizes, dim=-1)
        output = self._outputs[number]
        if number == len(self._sizes) - 1:
            self._given, self._outputs = None, ()
        return output


class PartLinear(torch.nn.Module):
    """Stands for one of the linear layers that share a ``JoinedProduct``."""

    def __init__(self, joined: JoinedProduct, number: int) -> None:
        super().__init__()
        self.joined = joined
        #: of all parts together
        self.bias = joined.product.bias
        self._number = number

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.joined.part(self._number, states)


def joined_weight(linears: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights, [all outputs, inputs], and biases of linear layers, one after the other; a copy."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    if linears[0].bias is None:
        return weight, None
    return weight, torch.cat([linear.bias.detach() for linear in linears])


#: the dtypes whose products have several forms
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def usable_forms(dtype: torch.dtype) -> tuple[Form, ...]:
    """The forms that this build of torch has for ``dtype`` on this CPU, from the simplest on."""
    if _can_pack(dtype):
        return Form.PLAIN, Form.TRANSPOSED, Form.PACKED
    return Form.PLAIN, Form.TRANSPOSED


def _can_pack(dtype: torch.dtype) -> bool:
    ones = torch.ones(16, 16, dtype=dtype)
    try:
        return bool((PackedProduct(ones)(ones) == 16).all())
    except (AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        logger.info("this torch packs no weights of %s on this CPU: %s", dtype, reason)
        return False
