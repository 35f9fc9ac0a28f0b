"""Who may import whom: config → ocr → inference → sessions_app, the engine nothing of ours, and nobody training."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: from the bottom up: each may import those before it
LAYERS = ["sessions_app", "inference", "ocr", "config", "training"]
ENGINE = "inference.engine"
#: frameworks of the web, the database and the queue
NOT_FOR_THE_ENGINE = {"django", "ninja", "channels", "celery", "redis", "daphne", "environ"}


def modules() -> Iterator[tuple[str, Path]]:
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


MODULES = list(modules())


def imported(path: Path, module: str) -> set[str]:
    """Everything that the module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_there_are_modules_in_every_layer() -> None:
    for layer in [*LAYERS, ENGINE]:
        assert sum(is_under(module, layer) for module, _ in MODULES) > 3


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_imports_go_down_the_layers_only(module: str, path: Path) -> None:
    above = LAYERS[LAYERS.index(module.partition(".")[0]) + 1 :]
    names = imported(path, module)
    assert [name for name in names if name.partition(".")[0] in above] == []
    assert [name for name in names if is_under(name, "tests")] == []
    if is_under(module, ENGINE):
        ours = [name for name in names if name.partition(".")[0] in LAYERS and not is_under(name, ENGINE)]
        assert ours == []
        assert [name for name in names if name.partition(".")[0] in NOT_FOR_THE_ENGINE] == []


@pytest.mark.parametrize(
    ("module", "path"),
    [(module, path) for module, path in MODULES if path.name != "__init__.py" and ".migrations." not in module],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_annotations_are_never_evaluated_at_import(module: str, path: Path) -> None:
    assert "from __future__ import annotations" in path.read_text()
