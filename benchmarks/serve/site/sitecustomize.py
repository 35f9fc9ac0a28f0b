"""Python reads this at the start of vLLM and of each process of it; it needs to be on ``PYTHONPATH``.

vLLM takes the CPU build of torch, for which the package index has no torchvision. See
``inference/engine/torchvision_compat.py``, which is used here as it is, for it needs nothing but torch.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

COMPAT = Path(__file__).resolve().parents[3] / "inference" / "engine" / "torchvision_compat.py"


class BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing, but declares the missing operators at the moment at which torchvision is looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            spec = importlib.util.spec_from_file_location("sambung_torchvision_compat", COMPAT)
            if spec is not None and spec.loader is not None:
                # Kept among the modules: the declarations live as long as it does.
                sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                module.declare_missing_operators()
        return None


sys.meta_path.insert(0, BeforeTorchvision())
