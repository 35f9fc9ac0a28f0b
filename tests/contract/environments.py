"""The environments of the client tests: one folder for each, built from ``pins/`` and kept.

python -m tests.contract.environments          builds those that are missing or whose pins have changed
python -m tests.contract.environments --lock   pins what requirements.in and package.json name, for a newer version
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = HERE / "pins"
#: outlives a run; ``TESTS_CONTRACT_ENVIRONMENTS`` names another place
BUILT = Path(os.environ.get("TESTS_CONTRACT_ENVIRONMENTS") or HERE / ".environments")
#: the one that has the Node which runs the JavaScript clients
NODE = "node"
#: downloads at once: they wait for the network, and unpacking takes a core
AT_ONCE = 3
BUILD_SECONDS = 300
UV = Path(sys.executable).with_name("uv")


class NotBuilt(Exception):
    """An environment could not be built. The text says why."""


def names() -> list[str]:
    return sorted(folder.name for folder in PINS.iterdir())


def python_of(name: str) -> Path:
    """The interpreter of a Python environment, which is built if need be. Raises NotBuilt."""
    return prepared(name) / "bin" / "python"


def node() -> Path:
    """The Node that runs the JavaScript clients. Raises NotBuilt."""
    return prepared(NODE) / "node_modules" / ".bin" / "node"


def prepared(name: str) -> Path:
    """The folder of an environment, built if it is missing or its pins have changed. Raises NotBuilt, every time."""
    done = _try(name)
    if isinstance(done, NotBuilt):
        raise done
    return done


@functools.cache
def _try(name: str) -> Path | NotBuilt:
    """Once a process: a registry that does not answer is waited for once, and not by each test."""
    try:
        return _prepare(name)
    except NotBuilt as error:
        return error


def _prepare(name: str) -> Path:
    folder = BUILT / name
    stamp = folder / ".pins"
    with _alone(name):
        digest = _digest(name)
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(folder, ignore_errors=True)
            _build(name, folder)
            stamp.write_text(digest)
    return folder


def _build(name: str, folder: Path) -> None:
    pins = PINS / name
    if (pins / "package.json").exists():
        folder.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(pins / file, folder)
        # The versions say which Node they want; the one that runs them is not the one that installs them.
        _run(name, ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder)
    else:
        _run(name, [str(UV), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        into = ["--python", str(folder / "bin" / "python")]
        _run(
            name,
            [str(UV), "pip", "install", "--quiet", "--no-deps", *into, "--requirement", str(pins / "requirements.txt")],
        )


def lock(name: str) -> None:
    """Write the pins of an environment for what it names. Raises NotBuilt."""
    pins = PINS / name
    if (pins / "package.json").exists():
        (pins / "package-lock.json").unlink(missing_ok=True)
        # Without the addresses: whoever installs has a registry of their own.
        options = ["--omit-lockfile-registry-resolved", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(name, ["npm", "install", "--package-lock-only", *options], cwd=pins)
    else:
        options = ["--quiet", "--universal", "--python-version", "3.11", "--no-annotate", "--no-header", "--upgrade"]
        _run(
            name,
            [str(UV), "pip", "compile", *options, "requirements.in", "--output-file", "requirements.txt"],
            cwd=pins,
        )


def _run(name: str, command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_SECONDS
        )
    except FileNotFoundError:
        raise NotBuilt(f"{name}: {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{name}: the package registry did not deliver within {BUILD_SECONDS} s") from None
    if done.returncode:
        raise NotBuilt(
            f"{name}: its packages cannot be installed. Can the package registry be reached?\n"
            f"{' '.join(command)}\n{(done.stdout + done.stderr).strip()[-3000:]}"
        )


def _digest(name: str) -> str:
    """Of the pins and of the interpreter, which a virtual environment points to."""
    digest = hashlib.sha256(f"{sys.executable} {platform.python_version()}".encode())
    for file in sorted((PINS / name).iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One builder at a time: CI builds while the first tests run."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.contract.environments", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--lock", action="store_true", help="write the pins instead")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all of them by default")
    options = parser.parse_args()
    work = lock if options.lock else prepared

    def one(name: str) -> NotBuilt | None:
        begun = time.monotonic()
        try:
            work(name)
        except NotBuilt as error:
            return error
        sys.stdout.write(f"{name}: ready after {time.monotonic() - begun:.1f} s\n")
        return None

    wanted = options.names or names()
    if any((PINS / name / "package.json").exists() for name in wanted):
        wanted = sorted({*wanted, NODE})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [error for error in pool.map(one, wanted) if error]
    for error in failed:
        sys.stderr.write(f"{error}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
