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
#: memory of a row for the default number of rows: a request with an image, and its answer. Longer ones take the room of
#: several, and the last to come wait.
_ROW_TOKENS = 1024
#: bounds of that number. More rows shorten the wait in a burst, and lengthen every step: on two cores 32 rows generated
#: 1.1 times the tokens of 16 a second, so more would only be slower for each.
_MIN_ROWS, _MAX_ROWS_ON_HOST, _MAX_ROWS_ON_DEVICE = 4, 32, 64
#: minimum for a usable model
_MIN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class KvBudget:
    """Tokens for the running rows (their number times the longest) and for cached prefixes, and bytes per token."""

    running_tokens: int
    prefix_tokens: int
    token_bytes: int


def default_rows(loaded: LoadedModel, *, max_bytes: int | None, reuse_prefixes: bool) -> int:
    """As many rows as the memory for keys and values has room for, at the usual length of a request, within bounds.

    The arguments are those of ``kv_budget``, and the weights are loaded: their memory is not free any more.
    """
    most = _MAX_ROWS_ON_DEVICE if loaded.device.type == "cuda" else _MAX_ROWS_ON_HOST
    total = (max_bytes or _free_bytes(loaded.device)) // _token_bytes(loaded)
    running = total - int(total * _PREFIX_SHARE) if reuse_prefixes else total
    return max(_MIN_ROWS, min(running // min(_ROW_TOKENS, loaded.context_length), most))


def kv_budget(loaded: LoadedModel, *, max_rows: int, max_bytes: int | None, reuse_prefixes: bool) -> KvBudget:
    """The budget for ``max_bytes``, or for a share of the memory that is free now.

    Never more than ``max_rows`` rows of the model's whole context could use. Raises LoadError when the memory is too
    small for any prompt.
    """
    token_bytes = _token_bytes(loaded)
    total = (max_bytes or _free_bytes(loaded.device)) // token_bytes
    prefixes = int(total * _PREFIX_SHARE) if reuse_prefixes else 0
    most = max_rows * loaded.context_length
    budget = KvBudget(min(total - prefixes, most), min(prefixes, most), token_bytes)
    if budget.running_tokens < _MIN_TOKENS:
        raise LoadError(f"There is too little memory for keys and values, which take {token_bytes} bytes a token.")
    return budget


def _token_bytes(loaded: LoadedModel) -> int:
    config = loaded.model.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * head_size * loaded.model.dtype.itemsize)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _DEVICE_SHARE)
    return int(free_host_bytes() * _HOST_SHARE)
