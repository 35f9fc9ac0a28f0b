"""Schemathesis over ``/openapi.json`` of a server of its own: requests made from the schema, good ones and bad ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.loop.bodies import KEY
from benchmarks.loop.stack import Memory
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import EmbeddedStack

#: no server error, and what our schema declares of an answer is true
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"
#: what the whole run may add to the server's memory, in MB
GROWN_MB = 512
#: an answer that takes longer is a failure; the short answers of this server come in a fraction of it
ANSWER_SECONDS = 20
#: answers are short, so that time goes into requests
SETTINGS: dict[str, object] = {"API_KEYS": KEY, "MAX_TOKENS": 8, "MAX_TOKENS_LIMIT": 16, "OCR_MAX_TOKENS": 16}
#: after its time is up, it finishes and tells
PATIENCE_SECONDS = 180


def fuzz_api(folder: Path, *, seconds: float, seed: int) -> list[str]:
    """What is wrong, a line each; Schemathesis itself prints every finding with a curl line that repeats it."""
    stack = EmbeddedStack(folder / "server", build_tiny_model(folder / "model"), **SETTINGS)
    try:
        stack.start()
        with Memory(stack) as memory:
            before = memory.forget_peak()
            status = _run(stack.base_url, folder, seconds, seed)
            grown = memory.peak_mb - before
        wrong = [f"{name} died" for name, process in stack.processes.items() if not process.is_running()]
    finally:
        stopped = _stop(stack)
    print(f"the server grew by {grown:.0f} MB at the peak")
    wrong += stopped
    if status:
        wrong.append(f"Schemathesis ended with status {status}; its findings are above")
    if grown > GROWN_MB:
        wrong.append(f"the server grew by {grown:.0f} MB; at most {GROWN_MB} are allowed")
    return wrong


def _stop(stack: EmbeddedStack) -> list[str]:
    try:
        stack.stop()
    except AssertionError as exc:
        # It is killed by now.
        return [str(exc)]
    return []


def _run(base_url: str, folder: Path, seconds: float, seed: int) -> int:
    options = {
        "--checks": CHECKS,
        "--max-time": str(max(1, round(seconds))),
        "--seed": str(seed),
        "--phases": "examples,coverage,fuzzing",
        "--request-timeout": str(ANSWER_SECONDS),
        "--generation-database": "none",
        "--header": f"Authorization: Bearer {KEY}",
        "--warnings": "off",
        "--output-sanitize": "false",
    }
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        raise SystemExit("Schemathesis is not installed: pip install -r requirements/benchmarks.txt")
    arguments = [str(program), "run", f"{base_url}/openapi.json", "--no-color", "--continue-on-failure"]
    # In the folder: Hypothesis leaves one of its own where it runs.
    return subprocess.run(
        [*arguments, *(word for option in options.items() for word in option)],
        cwd=folder,
        timeout=seconds + PATIENCE_SECONDS,
        check=False,
    ).returncode
