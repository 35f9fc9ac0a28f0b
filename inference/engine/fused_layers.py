"""The layers of Llama and Qwen3 with a third of the operations: the model's own arithmetic, over its own weights.

Small models on a CPU, and large ones on a GPU, are bound by the number of operations. Here the projections of a layer
are joined, and additions are fused into the preceding matrix products.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from inference.engine.products import DenseProduct, PartLinear, Product, ProductLinear, joined_weight
from inference.engine.rms_norm import RmsNorm

logger = logging.getLogger(__name__)

#: types of rotary embeddings whose frequencies do not depend on the length of the text
_STEADY_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
_LINEARS = (torch.nn.Linear, ProductLinear, PartLinear)


@dataclass(frozen=True, slots=True, eq=False)
class FusedLayer:
    """One decoder layer: RMS norms, rotary positions, gated SiLU. ``states`` are [tokens, hidden size] everywhere."""

    #: (heads of queries, heads of keys, size of a head)
    heads: tuple[int, int, int]
    input_norm: RmsNorm
    #: queries, keys and values: hidden size → (heads + 2 x key heads) x head size
    qkv: Product
    #: of the heads of queries and keys; None when the model has none
    qk_norm: RmsNorm | None
    output: Product
    post_norm: RmsNorm
    #: gate and up projections: hidden size → 2 x intermediate size
    gate_up: Product
    down: Product

    def project(self, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values, [tokens, heads + 2 x key heads, head size], with their rotary positions.

        ``cos`` and ``sin`` are [tokens, 1, head size]; the first half of ``sin`` is negated.
        """
        queries, keys, size = self.heads
        projected = self.qkv(self.input_norm(states)).view(len(states), queries + 2 * keys, size)
        turned = projected[:, : queries + keys]
        if self.qk_norm is not None:
            turned = self.qk_norm(turned)
        # Rotation by halves: x * cos + (-x2, x1) * sin, with the sign in ``sin``.
        torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin, out=projected[:, : queries + keys])
        return projected

    def finish(self, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The layer's output. ``attended``, [tokens, heads x head size], is what the attention has gathered."""
        states = self.output.added_to(states, attended)
        gate, up = self.gate_up(self.post_norm(states)).chunk(2, dim=-1)
        return self.down.added_to(states, functional.silu(gate, inplace=True) * up)


class FusedLayers:
    """The text decoder of a model, and its output layer."""

    def __init__(self, model: Any) -> None:
        """Raises ValueError or AttributeError when the model has another architecture.

        The joined weights replace the model's own.
        """
        check_architecture(model)
        decoder = model.get_decoder()
        config = decoder.config
        self.rotary = decoder.rotary_emb
        self.embed = decoder.embed_tokens
        #: as in ``FusedLayer``
        self.heads = config.num_attention_heads, config.num_key_value_heads, _head_size(config)
        self._epsilon = config.rms_norm_eps
        self._norm = RmsNorm(decoder.norm.weight.detach(), self._epsilon)
        self._head = model.get_output_embeddings()
        self.layers = [self._join(layer) for layer in decoder.layers]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """[rows, hidden size] → [rows, vocabulary]."""
        logits: torch.Tensor = self._head(self._norm(states))
        return logits

    def _join(self, layer: Any) -> FusedLayer:
        attention, mlp = layer.self_attn, layer.mlp
        norm = None
        if hasattr(attention, "q_norm"):
            queries, keys, _ = self.heads
            query, key = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            norm = RmsNorm(torch.cat((query.expand(queries, -1), key.expand(keys, -1))), self._epsilon)
        return FusedLayer(
            heads=self.heads,
            input_norm=RmsNorm(layer.input_layernorm.weight.detach(), self._epsilon),
            qkv=_product(attention.q_proj, attention.k_proj, attention.v_proj),
            qk_norm=norm,
            output=_product(attention.o_proj),
            post_norm=RmsNorm(layer.post_attention_layernorm.weight.detach(), self._epsilon),
            gate_up=_product(mlp.gate_proj, mlp.up_proj),
            down=_product(mlp.down_proj),
        )


def fused_layers(model: Any) -> FusedLayers | None:
    """None, and a line in the log, when the model has another architecture."""
    try:
        return FusedLayers(model)
    except (ValueError, AttributeError) as reason:
        logger.info("the model's own layers are used: %s", reason)
        return None


def check_architecture(model: Any) -> None:
    """Raises ValueError or AttributeError, with the reason, when ``FusedLayers`` cannot replace this model's layers."""
    decoder = model.get_decoder()
    config = decoder.config
    _require(config.hidden_act == "silu", "its activation is not SiLU")
    _require(decoder.rotary_emb.rope_type in _STEADY_ROPE, "its rotary embedding changes with the length")
    devices = {parameter.device for parameter in decoder.parameters()}
    _require(len(devices) == 1, "it is spread over several devices")
    _require(not hasattr(model, "quantization_method"), "it is quantized")
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        outputs = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        linears = [attention.q_proj, attention.k_proj, attention.v_proj, *outputs]
        _require(all(type(linear) in _LINEARS for linear in linears), "its projections are not plain")
        _require(all(linear.bias is None for linear in outputs), "its output projections have biases")
        _require(math.isclose(attention.scaling, _head_size(config) ** -0.5), "it scales attention in its own way")
        _require(getattr(attention, "sliding_window", None) is None, "it attends to a window")


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _product(*linears: Any) -> Product:
    """One product for linear layers of the same input, so that memory holds their weights once."""
    first = linears[0]
    if isinstance(first, PartLinear):
        return first.joined.product
    if isinstance(first, ProductLinear):
        return first.product
    if len(linears) == 1:
        return DenseProduct(first.weight.detach())
    weight, bias = joined_weight(linears)
    start = 0
    for linear in linears:
        linear.weight.data = weight[start : start + linear.out_features]
        start += linear.out_features
    return DenseProduct(weight, bias)


def _require(met: bool, reason: str) -> None:
    if not met:
        raise ValueError(reason)
