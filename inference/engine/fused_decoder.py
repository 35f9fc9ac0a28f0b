"""A decode step with a third of the operations: the arithmetic of the model's own layers, over its own weights.

A step of one token per row is bound by the number of operations and not by their size, on a CPU for small models and
on a GPU for large ones. Here the projections of a layer are joined, keys and values are written together, each query
group reads its keys without copies, and additions are fused into the preceding matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from inference.engine.kv_cache import SlotCache
from inference.engine.products import DenseProduct, PartLinear, Product, ProductLinear, joined_weight

#: types of rotary embeddings whose frequencies do not depend on the length of the text
_STEADY_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
_LINEARS = (torch.nn.Linear, ProductLinear, PartLinear)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One decoder layer's weights."""

    input_norm: torch.Tensor
    #: queries, keys and values: hidden size → (heads + 2 x key heads) x head size
    qkv: Product
    #: norms of each query and key head, [heads + key heads, head size]; None when the model has none
    qk_norm: torch.Tensor | None
    output: Product
    post_norm: torch.Tensor
    #: gate and up projections: hidden size → 2 x intermediate size
    gate_up: Product
    down: Product


class FusedDecoder:
    """Decodes for models with the layers of Llama and Qwen3: RMS norms, rotary positions, gated SiLU."""

    def __init__(self, model: Any, cache: SlotCache) -> None:
        """Raises ValueError when the model has another architecture. The joined weights replace the model's own."""
        check_architecture(model)
        decoder = model.get_decoder()
        config = decoder.config
        self._rotary = decoder.rotary_emb
        self._embed = decoder.embed_tokens
        self._norm = decoder.norm.weight.detach()
        self._head = model.get_output_embeddings()
        self._cache = cache
        self._epsilon = config.rms_norm_eps
        self.head_size = _head_size(config)
        self._query_heads = config.num_attention_heads
        self._key_heads = config.num_key_value_heads
        self._scale = self.head_size**-0.5
        self._layers = [self._join(layer) for layer in decoder.layers]

    def step(self, ids: torch.Tensor, positions: torch.Tensor, unseen: torch.Tensor | None) -> torch.Tensor:
        """Run one token of each row through the model. ``SlotCache.enter_step`` has set the positions before.

        ``ids`` and ``positions`` (rotary) are [rows]; ``unseen``, [rows, span], is true at positions that a row
        must not attend to (those after its own end), or None when every row attends to the whole span. Rows that attend
        alone attend to their own positions. Returns the logits, [rows, vocabulary].
        """
        hidden = self._embed(ids)
        mask = None
        if unseen is not None:
            mask = hidden.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)[:, None, None]
        cos, sin = self._angles(positions, hidden.dtype)
        for number, layer in enumerate(self._layers):
            hidden = self._attend(hidden, layer, number, cos, sin, mask)
            normed = self._rms(hidden, layer.post_norm)
            gate, up = layer.gate_up(normed).chunk(2, dim=-1)
            hidden = layer.down.added_to(hidden, functional.silu(gate) * up)
        return self._head(self._rms(hidden, self._norm))

    def _attend(
        self,
        hidden: torch.Tensor,
        layer: _Layer,
        number: int,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        rows, (queries, keys) = len(hidden), (self._query_heads, self._key_heads)
        normed = self._rms(hidden, layer.input_norm)
        states = layer.qkv(normed).view(rows, queries + 2 * keys, self.head_size)
        turned = states[:, : queries + keys]
        if layer.qk_norm is not None:
            turned = functional.rms_norm(turned, (self.head_size,), None, self._epsilon) * layer.qk_norm
        # Rotation by halves: x * cos + (-x2, x1) * sin, with the sign in ``sin``.
        half = self.head_size // 2
        torch.addcmul(turned * cos, turned.roll(half, -1), sin, out=states[:, : queries + keys])
        step, kept = self._cache.step, self._cache.layers[number].states
        kept[step.rows, :, step.positions] = states[:, queries:]
        layer_cache = self._cache.layers[number]
        past_keys, past_values = layer_cache.read(rows, step.span)
        # The queries that share a key are passed as if they were successive tokens, so that no key is repeated.
        grouped = states[:, :queries].unflatten(1, (keys, queries // keys))
        seen = functional.scaled_dot_product_attention(
            grouped, past_keys, past_values, attn_mask=mask, scale=self._scale
        )
        for row, length in step.alone:
            past_keys, past_values = layer_cache.read_row(row, length)
            seen[row] = functional.scaled_dot_product_attention(
                grouped[row : row + 1], past_keys, past_values, scale=self._scale
            )[0]
        return layer.output.added_to(hidden, seen.reshape(rows, queries * self.head_size))

    def _rms(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._epsilon)

    def _angles(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, 1, head size] each. In generated text all axes of mrope have the same position."""
        half = positions[:, None].float() * self._rotary.inv_freq
        scaling = self._rotary.attention_scaling
        cos, sin = half.cos() * scaling, half.sin() * scaling
        return (
            torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(1),
            torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(1),
        )

    def _join(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        norm = None
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            norm = torch.cat((query.expand(self._query_heads, -1), key.expand(self._key_heads, -1)))
        return _Layer(
            input_norm=layer.input_layernorm.weight.detach(),
            qkv=_product(attention.q_proj, attention.k_proj, attention.v_proj),
            qk_norm=norm,
            output=_product(attention.o_proj),
            post_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=_product(mlp.gate_proj, mlp.up_proj),
            down=_product(mlp.down_proj),
        )


def check_architecture(model: Any) -> None:
    """Raises ValueError or AttributeError, with the reason, when ``FusedDecoder`` cannot decode for this model."""
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
