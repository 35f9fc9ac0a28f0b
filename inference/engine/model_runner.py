"""The two forward passes: prefill of one row, decode of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from inference.engine.kv_cache import SlotCache
from inference.engine.loading import LoadedModel
from inference.engine.prompts import Prompt


class ModelRunner:
    """Runs the model over the shared cache. Not for two threads: the cache knows one forward pass at a time.

    Positions are always given: Qwen3-VL would otherwise take them from an offset that it keeps on the module, which
    belongs to whatever request ran last.
    """

    def __init__(self, loaded: LoadedModel, *, max_rows: int) -> None:
        self._model: Any = loaded.model
        self._text_model: Any = loaded.model.model.language_model
        self.device = loaded.device
        self.cache = SlotCache(loaded.model.config.get_text_config().num_hidden_layers, max_rows=max_rows)
        self._places = torch.arange(0, device=self.device)

    def prefill(self, row: int, prompt: Prompt, *, used_length: int) -> torch.Tensor:
        """Fill ``row``, the first free one, from ``prompt`` and return the logits of the next token, [1, vocabulary].

        ``used_length`` is the longest of the rows in use.
        """
        tokens = prompt.input_ids.shape[1]
        # One more, so that the first decode step does not have to grow the cache at once.
        self.cache.reserve(rows=row + 1, length=max(tokens + 1, used_length), used_rows=row, used_length=used_length)
        self.cache.enter_prefill(row)
        output = self._model(
            input_ids=prompt.input_ids.to(self.device),
            position_ids=prompt.position_ids.to(self.device),
            past_key_values=self.cache.past_key_values,
            use_cache=True,
            logits_to_keep=1,
            **{name: tensor.to(self.device) for name, tensor in prompt.media.items()},
        )
        return output.logits[:, -1].to(self.device)

    def decode(self, tokens: Sequence[int], lengths: Sequence[int], rope_deltas: Sequence[int]) -> torch.Tensor:
        """One step for rows 0 … n-1 and the logits of their next tokens, [n, vocabulary].

        ``tokens`` are the rows' last tokens, ``lengths`` how many positions of each are in the cache.
        """
        rows, span = len(tokens), max(lengths) + 1
        self.cache.reserve(rows=rows, length=span, used_rows=rows, used_length=span - 1)
        columns = torch.tensor([tokens, lengths, rope_deltas], dtype=torch.long).to(self.device)
        ids, positions = columns[0], columns[1]
        places = self._first_places(max(rows, span))
        self.cache.enter_decode(places[:rows], positions, span)
        hidden = self._text_model(
            input_ids=ids.unsqueeze(1),
            position_ids=(positions + columns[2])[None, :, None].expand(3, -1, -1),
            # [rows, 1, 1, span]: each row sees its own past and itself, nothing of what lies behind.
            attention_mask=(places[:span] <= positions[:, None])[:, None, None, :],
            past_key_values=self.cache.past_key_values,
            use_cache=True,
        ).last_hidden_state
        # A model spread over several devices ends on another one than it begins.
        return self._model.lm_head(hidden[:, -1]).to(self.device)

    def _first_places(self, count: int) -> torch.Tensor:
        if len(self._places) < count:
            self._places = torch.arange(2 * count, device=self.device)
        return self._places[:count]
