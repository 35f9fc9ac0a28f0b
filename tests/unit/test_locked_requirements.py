"""The locked requirements hold what the readable ones name, with hashes, and say nothing of where they come from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.live.stack import ROOT

REQUIREMENTS = ROOT / "requirements"
NAMED = re.compile(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)$", re.MULTILINE)
LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)([^\n]*\n(?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)*)", re.MULTILINE)


def named(file: Path) -> dict[str, str]:
    """The pins of a readable file, and of those that it includes."""
    text = file.read_text()
    pins = dict(NAMED.findall(text))
    for other in re.findall(r"^-r (\S+)$", text, re.MULTILINE):
        pins |= named(REQUIREMENTS / other)
    return pins


def locked(name: str) -> dict[str, str]:
    return {package: version for package, version, _ in LOCKED.findall((REQUIREMENTS / f"{name}.lock").read_text())}


@pytest.mark.parametrize("name", ["base", "dev"])
def test_every_direct_pin_is_locked_with_the_same_version(name):
    pins = named(REQUIREMENTS / f"{name}.txt")
    del pins["torch"]

    assert pins.items() <= locked(name).items(), "the lock is old: run `make lock`"


@pytest.mark.parametrize("name", ["base", "dev"])
def test_every_locked_package_has_hashes_and_no_address(name):
    text = (REQUIREMENTS / f"{name}.lock").read_text()

    assert len(LOCKED.findall(text)) == text.count("==") - len(re.findall("[_a-z]+ == '", text))
    assert [package for package, _, rest in LOCKED.findall(text) if "--hash" not in rest] == []
    assert "://" not in text
    assert "index-url" not in text


def test_the_server_and_the_tests_run_on_the_same_versions():
    assert locked("base").items() <= locked("dev").items()


def test_the_lock_leaves_out_torch_and_what_only_its_cuda_build_needs():
    left_out = [package for package in locked("dev") if re.match("torch$|triton|nvidia-|cuda-", package)]

    assert left_out == []


def test_the_metadata_for_the_lock_are_those_of_the_pinned_torch():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["dependency-metadata"]

    assert {entry["name"]: entry["version"] for entry in metadata} == named(REQUIREMENTS / "torch.txt")
