"""How much memory keys and values may take, and how many tokens that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference.engine.devices import free_host_bytes
from inference.engine.errors import LoadError
from inference.engine.loading import LoadedModel

#: share of the free memory once the model is loaded; less on a CPU, where other programs need some too
_DEVICE_SHARE = 0.8
_HOST_SHARE = 0.4
#: share of the budget for cached prefixes
_PREFIX_SHARE = 0.25
#: minimum for a usable model
_MIN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class KvBudget:
    """Tokens for the running rows (their number times the longest) and for cached prefixes, and bytes per token."""

    running_tokens: int
    prefix_tokens: int
    token_bytes: int


def kv_budget(loaded: LoadedModel, *, max_rows: int, max_bytes: int | None, reuse_prefixes: bool) -> KvBudget:
    """The budget for ``max_bytes``, or for a share of the memory that is free now.

    Never more than ``max_rows`` rows of the model's whole context could use. Raises LoadError when the memory is too
    small for any prompt.
    """
    config = loaded.model.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * loaded.model.dtype.itemsize
    total = (max_bytes or _free_bytes(loaded.device)) // token_bytes
    prefixes = int(total * _PREFIX_SHARE) if reuse_prefixes else 0
    most = max_rows * loaded.context_length
    budget = KvBudget(min(total - prefixes, most), min(prefixes, most), token_bytes)
    if budget.running_tokens < _MIN_TOKENS:
        raise LoadError(f"There is too little memory for keys and values, which take {token_bytes} bytes a token.")
    return budget


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _DEVICE_SHARE)
    return int(free_host_bytes() * _HOST_SHARE)
