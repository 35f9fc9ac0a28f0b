"""Muon for the matrices of the layers, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

#: name parts of matrices that are tables or outputs, not layers
_NOT_LAYERS = ("embed", "lm_head", "pos_embed", "letters", "fields", "places")


class Optimizer:
    """Steps of a size set by ``set_rate``; both kinds move weights about as far at one rate.

    Muon (Jordan et al. 2024) makes every matrix's step orthogonal, so that all directions in it learn; scaled to
    AdamW's root mean square as in "Muon is Scalable for LLM Training" (arXiv:2502.16982).
    """

    def __init__(self, modules: Iterable[nn.Module], *, rate: float) -> None:
        named = [pair for module in modules for pair in module.named_parameters()]
        layers = [weight for name, weight in named if weight.dim() == 2 and not any(n in name for n in _NOT_LAYERS)]
        known = {id(weight) for weight in layers}
        others = [weight for _, weight in named if id(weight) not in known]
        self.weights = [*layers, *others]
        self._each: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(layers, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
        )

    def set_rate(self, rate: float) -> None:
        for one in self._each:
            for group in one.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        for one in self._each:
            one.zero_grad(set_to_none=True)

    def step(self) -> None:
        for one in self._each:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): one.state_dict() for i, one in enumerate(self._each)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, one in enumerate(self._each):
            one.load_state_dict(state[str(i)])
