"""The decode step, which runs one token of every row through the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from inference.engine.agreement import difference, tolerance
from inference.engine.cuda_graphs import GraphedSteps
from inference.engine.errors import LoadError
from inference.engine.fused_decoder import FusedDecoder
from inference.engine.fused_layers import FusedLayers
from inference.engine.kv_cache import SlotCache
from inference.engine.loading import LoadedModel

logger = logging.getLogger(__name__)

#: (ids, rotary positions, masked positions) → logits, as ``FusedDecoder.step``
_StepFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


#: what attending alone costs a row, in positions that could be read in that time
_COST_ALONE = 128


def long_rows(lengths: Sequence[int]) -> list[int]:
    """The rows of a step that should attend alone.

    In a common product every row reads as many positions as the longest. Takes the longest rows out, as many as
    minimise the number of positions that are read.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    best, taken, read_alone = len(lengths) * lengths[order[0]], 0, 0
    for count, row in enumerate(order[:-1], start=1):
        read_alone += lengths[row] + _COST_ALONE
        read = read_alone + len(lengths) * lengths[order[count]]
        if read < best:
            best, taken = read, count
    return order[:taken]


def _attends_to_a_window(config: Any) -> bool:
    """In some layers or all of them, and not to all tokens that the model can take."""
    if kinds := getattr(config, "layer_types", None):
        return set(kinds) != {"full_attention"}
    window = getattr(config, "sliding_window", None)
    return window is not None and window < config.max_position_embeddings


class ModelRunner:
    """Runs decode steps over the shared cache. Not thread-safe: the cache supports one forward pass at a time.

    Positions are always passed: Qwen3-VL would otherwise compute them from an offset that it keeps on the module, which
    belongs to whichever request ran last.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        fused: FusedLayers | None,
        *,
        max_rows: int,
        max_tokens: int,
        cuda_graphs: bool = True,
        compile_step: bool = False,
    ) -> None:
        """``fused`` are used if they give what the model's own layers give, see ``FusedLayers``.

        ``max_tokens`` limits the cache, rows times length; ``cuda_graphs`` matters on an NVIDIA GPU only.

        ``compile_step`` has torch compile the fused step, which takes a minute at the start and needs a C++ compiler.
        Raises LoadError for a model that cannot be batched.
        """
        self._decoder: Any = loaded.model.get_decoder()
        self._head: Any = loaded.model.get_output_embeddings()
        # mrope has a position for each of three axes, which are equal in generated text.
        self._axes = 3 if loaded.has_media else 1
        self.device = loaded.device
        config = self._decoder.config
        if _attends_to_a_window(config):
            raise LoadError("The model attends to a window; this engine serves models with full attention only.")
        graphed = cuda_graphs and self.device.type == "cuda"
        self.cache = SlotCache(config.num_hidden_layers, max_rows=max_rows, max_tokens=max_tokens, steady=graphed)
        self._places = torch.arange(0, device=self.device)
        self._step: _StepFunction = self._step_through_layers
        self._graphs: GraphedSteps | None = None
        #: whether long rows of a step attend alone; torch would compile a step anew for each choice of rows
        self._takes_rows_alone = False
        if fused is None:
            return
        decoder = FusedDecoder(fused, self.cache)
        # One compilation for all numbers of rows and spans; CUDA graphs record the compiled step.
        steps = [torch.compile(decoder.step, dynamic=True)] if compile_step else []
        for step in (*steps, decoder.step):
            if self._agrees(step, loaded, fused.heads[-1], max_rows):
                self._step = step
                self._takes_rows_alone = self.device.type == "cpu" and step == decoder.step
                if graphed:
                    self._graphs = GraphedSteps(step, self.cache, self.device)
                    self._graphs.record_ahead()
                return

    def decode(self, tokens: Sequence[int], lengths: Sequence[int], rope_deltas: Sequence[int]) -> torch.Tensor:
        """One step for rows 0 … n-1 and the logits of their next tokens, [n, vocabulary].

        ``tokens`` are the rows' last tokens, ``lengths`` how many positions of each are in the cache.
        """
        if self._graphs is not None and self._graphs.usable:
            logits = self._graphs.run(tokens, lengths, rope_deltas)
            if logits is not None:
                return logits
        columns = torch.tensor([tokens, lengths, rope_deltas], dtype=torch.long).to(self.device)
        ids, positions = columns[0], columns[1]
        alone = long_rows(lengths) if self._takes_rows_alone else []
        longest_of_others = sorted(lengths)[-1 - len(alone)]
        span = longest_of_others + 1
        self.cache.enter_step(len(tokens), positions, max(lengths), [(row, lengths[row] + 1) for row in alone], span)
        unseen = None if min(lengths) == longest_of_others else self._first_places(span) > positions[:, None]
        return self._step(ids, positions + columns[2], unseen)

    def _step_through_layers(
        self, ids: torch.Tensor, positions: torch.Tensor, unseen: torch.Tensor | None
    ) -> torch.Tensor:
        """Like ``FusedDecoder.step``, through the model's own layers."""
        if unseen is None:
            unseen = torch.zeros(len(ids), self.cache.step.span, dtype=torch.bool, device=self.device)
        output = self._decoder(
            input_ids=ids.unsqueeze(1),
            position_ids=positions[None, :, None].expand(3, -1, -1) if self._axes == 3 else positions[:, None],
            attention_mask=~unseen[:, None, None],
            past_key_values=self.cache.past_key_values,
            use_cache=True,
        ).last_hidden_state
        # A model split over devices outputs on a different device than its input.
        return self._head(output[:, -1]).to(self.device)

    def _agrees(self, step: _StepFunction, loaded: LoadedModel, head_size: int, max_rows: int) -> bool:
        """Compare one step with the model's own layers: a model may look supported and still compute differently.

        Also False when torch cannot compile the step here.
        """
        config, dtype = self._decoder.config, loaded.model.dtype
        lengths, logits = (9, 5)[:max_rows], []
        try:
            with torch.inference_mode():
                for taken in (step, self._step_through_layers):
                    generator = torch.Generator().manual_seed(0)
                    for row, length in enumerate(lengths):
                        shape = (config.num_hidden_layers, 1, 2 * config.num_key_value_heads, length, head_size)
                        states = torch.randn(shape, generator=generator).to(self.device, dtype)
                        self.cache.insert(row, list(states), max(lengths))
                    ids, positions = torch.tensor([(3, 7)[:max_rows], lengths], device=self.device)
                    self.cache.enter_step(len(lengths), positions, max(lengths))
                    unseen = self._first_places(max(lengths) + 1) > positions[:, None]
                    logits.append(taken(ids, positions, unseen))
                    self.cache.release()
        except RuntimeError as error:
            logger.warning("a decode step cannot be taken: %s", str(error).strip().splitlines()[0])
            self.cache.release()
            return False
        differs = difference(*logits)
        if differs <= tolerance(loaded):
            return True
        logger.warning("a decode step differs by %.2g from that of the model's own layers, and is not used", differs)
        return False

    def _first_places(self, count: int) -> torch.Tensor:
        if len(self._places) < count:
            self._places = torch.arange(2 * count, device=self.device)
        return self._places[:count]
