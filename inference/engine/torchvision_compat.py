"""Lets torchvision's pure-Python transforms import where its compiled operators do not load.

The torchvision wheel on the package index is compiled against CUDA's torch. On a CPU-only torch its library does not
load, so the operators it would define are missing, and ``import torchvision`` fails while it describes two of them
("operator torchvision::nms does not exist"). The Qwen3-VL processors need none of them, only the transforms; declaring
the two schemas is enough for the import. Calling such an operator still fails, as it should.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

#: the operators that ``import torchvision`` describes to torch without checking that they exist
SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_lock = threading.Lock()
# A torch library's declarations live as long as the object does.
_library: torch.library.Library | None = None


def declare_missing_operators() -> list[str]:
    """Declare the operators that torchvision's own library could not define; call it before torchvision is imported.

    Returns the names declared by this call: none when torchvision is absent, works unaided, or was prepared before.
    """
    global _library
    with _lock:
        if _library is not None or "torchvision" in sys.modules:
            return []
        spec = importlib.util.find_spec("torchvision")
        if spec is None or not spec.submodule_search_locations:
            return []
        for folder in spec.submodule_search_locations:
            _load_compiled_operators(Path(folder))
        missing = [name for name in SCHEMAS if not _exists(name)]
        if missing:
            _library = torch.library.Library("torchvision", "DEF")
            for name in missing:
                _library.define(SCHEMAS[name])
            logger.debug("torchvision operators declared: %s", ", ".join(missing))
        return missing


def _load_compiled_operators(folder: Path) -> None:
    # Declaring first and loading later would define the operators twice, so the real ones get their chance now.
    for pattern in ("_C*.so", "_C*.pyd"):
        for path in folder.glob(pattern):
            try:
                torch.ops.load_library(str(path))
            except (OSError, RuntimeError) as error:
                logger.debug("torchvision's operators do not load: %s", type(error).__name__)


def _exists(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)
