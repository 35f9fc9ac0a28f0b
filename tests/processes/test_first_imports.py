"""What a new process imports: a process imports each module once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_torchvision_imports_after_its_missing_operators_are_declared() -> None:
    code = (
        "from inference.engine.torchvision_compat import declare_missing_operators\n"
        "declared = declare_missing_operators()\n"
        "assert declare_missing_operators() == []\n"
        "import torchvision, torch\n"
        "from torchvision.transforms.v2 import functional\n"
        "image = functional.resize(torch.zeros(3, 64, 64), [32, 32])\n"
        "has_operators = torchvision.extension._has_ops()\n"
        "print(sorted(declared) == ([] if has_operators else ['nms', 'qnms']), tuple(image.shape))\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split("\n")[0] == "True (3, 32, 32)"


def test_media_of_a_web_process_need_no_torch() -> None:
    script = (
        "import sys, inference.media.load, inference.media.parts\n"
        "print([name for name in ('torch', 'transformers', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
