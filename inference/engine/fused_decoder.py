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

#: types of rotary embeddings whose frequencies do not depend on the length of the text
_STEADY_ROPE = frozenset({"default", "linear", "llama3", "yarn"})


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One decoder layer's weights; None for a weight that the model does not have."""

    input_norm: torch.Tensor
    #: queries, keys and values, [(heads + 2 x key heads) x head size, hidden size]
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    #: norms of each query and key head, [heads + key heads, head size]
    qk_norm: torch.Tensor | None
    output: torch.Tensor
    post_norm: torch.Tensor
    #: gate and up projections, [2 x intermediate size, hidden size]
    gate_up: torch.Tensor
    down: torch.Tensor


class FusedDecoder:
    """Decodes for models with the layers of Llama and Qwen3: RMS norms, rotary positions, gated SiLU."""

    def __init__(self, model: Any, cache: SlotCache) -> None:
        """Raises ValueError when the model has another architecture. The joined weights replace the model's own."""
        decoder = model.get_decoder()
        config = decoder.config
        _require(config.hidden_act == "silu", "its activation is not SiLU")
        self._rotary = decoder.rotary_emb
        _require(self._rotary.rope_type in _STEADY_ROPE, "its rotary embedding changes with the length")
        self._embed = decoder.embed_tokens
        self._norm = decoder.norm.weight.detach()
        self._head = model.get_output_embeddings()
        self._cache = cache
        self._epsilon = config.rms_norm_eps
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._query_heads = config.num_attention_heads
        self._key_heads = config.num_key_value_heads
        self._scale = self.head_size**-0.5
        self._check(model, decoder)
        self._layers = [self._join(layer) for layer in decoder.layers]

    def step(self, ids: torch.Tensor, positions: torch.Tensor, unseen: torch.Tensor | None) -> torch.Tensor:
        """Run one token of each row through the model. ``SlotCache.enter_step`` has set the positions before.

        ``ids`` and ``positions`` (rotary) are [rows]; ``unseen``, [rows, span], is true at positions that a row
        must not attend to (those after its own end), or None when every row attends to the whole span. Returns the
        logits, [rows, vocabulary].
        """
        hidden = self._embed(ids)
        mask = None
        if unseen is not None:
            mask = hidden.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)[:, None, None]
        cos, sin = self._angles(positions, hidden.dtype)
        for number, layer in enumerate(self._layers):
            hidden = self._attend(hidden, layer, number, cos, sin, mask)
            normed = self._rms(hidden, layer.post_norm)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, dim=-1)
            hidden = torch.addmm(hidden, functional.silu(gate) * up, layer.down)
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
        states = functional.linear(normed, layer.qkv, layer.qkv_bias).view(rows, queries + 2 * keys, self.head_size)
        turned = states[:, : queries + keys]
        if layer.qk_norm is not None:
            turned = functional.rms_norm(turned, (self.head_size,), None, self._epsilon) * layer.qk_norm
        # Rotation by halves: x * cos + (-x2, x1) * sin, with the sign in ``sin``.
        half = self.head_size // 2
        torch.addcmul(turned * cos, turned.roll(half, -1), sin, out=states[:, : queries + keys])
        step, kept = self._cache.step, self._cache.layers[number].states
        kept[step.rows, :, step.positions] = states[:, queries:]
        past_keys, past_values = self._cache.layers[number].read(rows, step.span)
        # The queries that share a key are passed as if they were successive tokens, so that no key is repeated.
        grouped = states[:, :queries].unflatten(1, (keys, queries // keys))
        seen = functional.scaled_dot_product_attention(
            grouped, past_keys, past_values, attn_mask=mask, scale=self._scale
        )
        return torch.addmm(hidden, seen.reshape(rows, queries * self.head_size), layer.output)

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

    def _check(self, model: Any, decoder: Any) -> None:
        devices = {parameter.device for parameter in decoder.parameters()}
        _require(len(devices) == 1, "it is spread over several devices")
        _require(not hasattr(model, "quantization_method"), "it is quantized")
        for layer in decoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
            linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
            _require(all(type(linear) is torch.nn.Linear for linear in linears), "its projections are not plain")
            biased = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
            _require(all(linear.bias is None for linear in biased), "its output projections have biases")
            _require(math.isclose(attention.scaling, self._scale), "it scales attention in its own way")
            _require(getattr(attention, "sliding_window", None) is None, "it attends to a window")

    def _join(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        norm = None
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            norm = torch.cat((query.expand(self._query_heads, -1), key.expand(self._key_heads, -1)))
        inputs = [attention.q_proj, attention.k_proj, attention.v_proj]
        bias = attention.q_proj.bias
        return _Layer(
            input_norm=layer.input_layernorm.weight.detach(),
            qkv=_joined(inputs),
            qkv_bias=None if bias is None else torch.cat([linear.bias.detach() for linear in inputs]),
            qk_norm=norm,
            output=attention.o_proj.weight.detach().t(),
            post_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=_joined([mlp.gate_proj, mlp.up_proj]),
            down=mlp.down_proj.weight.detach().t(),
        )


def _joined(linears: list[Any]) -> torch.Tensor:
    """The weights concatenated; the modules' own become views of the result, so that memory holds them once."""
    joined = torch.cat([linear.weight.detach() for linear in linears])
    start = 0
    for linear in linears:
        linear.weight.data = joined[start : start + linear.out_features]
        start += linear.out_features
    return joined


def _require(met: bool, reason: str) -> None:
    if not met:
        raise ValueError(reason)
