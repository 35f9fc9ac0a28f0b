"""Whether the fused layers give what the model's own layers give.

A model may look supported and still compute differently, so both are compared when it is loaded.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import torch

from inference.engine.loading import LoadedModel
from inference.engine.media_encoder import EncodedPiece
from inference.engine.media_inputs import MediaPiece
from inference.engine.prefill_unit import Prefill, Prefilled, PrefillPass, PrefillUnit
from inference.engine.prompts import Prompt

logger = logging.getLogger(__name__)

#: root mean square of the differences between the logits of the fused layers and of the model's own, relative to
#: their spread. In bfloat16 rounding gives 0.02, and 0.06 when training has made the distributions sharp
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.08}
#: With eight bits in float32: where the last bits of two states differ, they may be rounded to different integers, and
#: later layers amplify that. 28 layers of random weights give 0.024.
_TOLERANCE_IN_EIGHT_BITS = 0.15


#: four tokens of an image of two rows and two columns between text: temporal, vertical and horizontal positions
_IMAGE = range(2, 6)
_POSITIONS = [[0, 1, 2, 2, 2, 2, 4], [0, 1, 2, 2, 3, 3, 4], [0, 1, 2, 3, 2, 3, 4]]


def difference(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the differences, relative to the spread of ``expected``."""
    return ((logits.float() - expected.float()).square().mean().sqrt() / expected.float().std()).item()


def tolerance(loaded: LoadedModel) -> float:
    """The largest ``difference`` that rounding explains."""
    return TOLERANCE.get(loaded.model.dtype, 0.08) if loaded.quantization == "none" else _TOLERANCE_IN_EIGHT_BITS


@torch.inference_mode()
def prefills_alike(fused: PrefillPass, own: PrefillPass, loaded: LoadedModel) -> bool:
    """Whether ``fused`` gives the logits of ``own`` for three short prompts, the first of them in two chunks.

    Otherwise the log says why. Also False when ``fused`` raises RuntimeError.
    """
    embed = loaded.model.get_input_embeddings()

    def run(way: PrefillPass, *limits: int) -> list[Prefilled]:
        queue, found = _samples(loaded), list[Prefilled]()
        for tokens in itertools.chain(limits, itertools.repeat(100)):
            if not queue:
                break
            complete = way.run(PrefillUnit.of(way.choose(queue, tokens), embed))
            found += complete
            del queue[: len(complete)]
        return found

    expected = run(own)
    try:
        found = run(fused, 4)
    except RuntimeError as error:
        logger.warning("the fused prefill cannot be used: %s", str(error).strip().splitlines()[0])
        return False
    differs = difference(torch.cat([one.logits for one in found]), torch.cat([one.logits for one in expected]))
    if differs <= tolerance(loaded):
        return True
    logger.warning("the fused prefill differs by %.2g from that of the model's own layers, and is not used", differs)
    return False


def _samples(loaded: LoadedModel) -> list[Prefill]:
    """Prompts of seven, three and five tokens. If the model takes images, the first one has a random image."""
    axes = 3 if loaded.has_media else 1
    samples = [Prefill(Prompt.of_tokens(torch.arange(3, 3 + tokens), axes=axes), []) for tokens in (7, 3, 5)]
    if loaded.has_media:
        weight = loaded.model.get_input_embeddings().weight
        layers = len(loaded.model.config.vision_config.deepstack_visual_indexes)
        shape = 1 + layers, len(_IMAGE), weight.shape[1]
        embeddings, *deepstack = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight)
        nothing = torch.empty(0)
        piece = MediaPiece("image", digest=b"", pixels=nothing, grid=nothing, places=_IMAGE)
        samples[0].prompt = replace(samples[0].prompt, pieces=(piece,), positions=torch.tensor(_POSITIONS))
        samples[0].encoded[0] = EncodedPiece(embeddings, tuple(deepstack))
    return samples
