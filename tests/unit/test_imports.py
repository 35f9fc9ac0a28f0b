"""Which module may import which: config → ocr → inference → sessions_app, never training, and never in a circle.

The engine imports nothing of ours and no Django, nor does its process; the reading of cards imports no ORM.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: from the bottom up: each may import those before it
LAYERS = ["sessions_app", "inference", "ocr", "config", "training"]
ENGINE = "inference.engine"
#: runs where there is no Django
ENGINE_PROCESS = "inference.engine_process"
#: used by the evaluation, which needs no database
READING = "ocr.reading"
#: package → the packages of its app that it must not import: those above it, and those beside it
NOT_FOR_THE_PACKAGE = {
    "sessions_app.encryption": ("sessions_app.history", "sessions_app.store", "sessions_app.admin"),
    "sessions_app.history": ("sessions_app.store", "sessions_app.admin"),
    "sessions_app.store": ("sessions_app.admin",),
    "inference.media": ("inference.backends", "inference.worker", "inference.api"),
    "inference.backends": ("inference.worker", "inference.api"),
    "inference.worker": ("inference.api",),
    "inference.api": ("inference.backends", "inference.worker"),
    "ocr.reading": ("ocr.audit", "ocr.callbacks", "ocr.desk", "ocr.persons", "ocr.api"),
    "ocr.audit": ("ocr.callbacks", "ocr.desk", "ocr.persons", "ocr.api"),
    "ocr.callbacks": ("ocr.desk", "ocr.persons", "ocr.api"),
    "ocr.desk": ("ocr.persons", "ocr.api"),
    "ocr.persons": ("ocr.api",),
    "ocr.api": ("ocr.desk", "ocr.persons"),
}
#: the exceptions, by the importing module
IMPORTS_UPWARDS = {
    # A callback contains the path of its reading, which the API renders.
    ("ocr.callbacks.sending", "ocr.api.rendering"),
}
#: frameworks of the web, the database and the queue
NOT_FOR_THE_ENGINE = {"django", "ninja", "channels", "celery", "redis", "daphne", "environ"}


def modules() -> Iterator[tuple[str, Path]]:
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


MODULES = list(modules())


def imported(path: Path, module: str) -> set[str]:
    """Everything that the module imports, inside functions and for type checking too."""
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


def imports_among_ours() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports. A package stands for its ``__init__``."""
    ours = {module.removesuffix(".__init__"): imported(path, module) for module, path in MODULES}
    graph: dict[str, set[str]] = {}
    for module, names in ours.items():
        # ``from package import name``: the name is a module, or a part of one.
        found = {name if name in ours else name.rpartition(".")[0] for name in names}
        graph[module] = (found & ours.keys()) - {module}
    return graph


GRAPH = imports_among_ours()


def all_imports_of(package: str) -> set[str]:
    """The modules of a package, and all that they import of ours, directly or not."""
    found: set[str] = set()
    waiting = [module for module in GRAPH if is_under(module, package)]
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting += GRAPH[module]
    return found


def test_there_are_modules_in_every_layer() -> None:
    for layer in [*LAYERS, ENGINE]:
        assert sum(is_under(module, layer) for module, _ in MODULES) > 3


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_imports_go_down_the_layers_only(module: str, path: Path) -> None:
    above = LAYERS[LAYERS.index(module.partition(".")[0]) + 1 :]
    names = imported(path, module)
    assert [name for name in names if name.partition(".")[0] in above] == []
    assert [name for name in names if is_under(name, "tests")] == []
    if package := next((package for package in (ENGINE, ENGINE_PROCESS) if is_under(module, package)), None):
        ours = [name for name in names if name.partition(".")[0] in LAYERS]
        assert [name for name in ours if not (is_under(name, ENGINE) or is_under(name, package))] == []
        assert [name for name in names if name.partition(".")[0] in NOT_FOR_THE_ENGINE] == []


@pytest.mark.parametrize("package", NOT_FOR_THE_PACKAGE)
def test_the_packages_of_an_app_have_an_order(package: str) -> None:
    members = [module for module in GRAPH if is_under(module, package)]
    assert len(members) > 3
    assert {
        (module, name)
        for module in members
        for name in GRAPH[module]
        if any(is_under(name, other) for other in NOT_FOR_THE_PACKAGE[package])
    } == {found for found in IMPORTS_UPWARDS if is_under(found[0], package)}


@pytest.mark.parametrize(
    ("module", "path"),
    [(module, path) for module, path in MODULES if path.name != "__init__.py" and ".migrations." not in module],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_annotations_are_never_evaluated_at_import(module: str, path: Path) -> None:
    assert "from __future__ import annotations" in path.read_text()


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("sessions_app.store.transitions", "sessions_app.store.sql"),  # from package import module
        ("sessions_app.hub", "sessions_app.wakeups"),
        ("sessions_app.listener", "sessions_app.wakeups"),  # from module import name
        ("inference.tasks", "inference.worker.runner"),  # in a function
        ("ocr.refusals", "ocr.history"),  # for type checking
    ],
)
def test_the_graph_has_imports_of_every_form(module: str, other: str) -> None:
    assert other in GRAPH[module]


def test_benchmarks_run_without_pytest() -> None:
    # Other projects' packages are in ``benchmarks/.environments``.
    waiting = [path for path in (ROOT / "benchmarks").rglob("*.py") if ".environments" not in path.parts]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        names = imported(path, str(path))
        assert [name for name in names if is_under(name, "pytest")] == [], path
        # ``from tests import services`` and ``from tests.services import require`` both name a file.
        files = [
            ROOT.joinpath(*parts).with_suffix(".py")
            for name in names
            if is_under(name, "tests")
            for parts in (name.split("."), name.split(".")[:-1])
        ]
        waiting += [file for file in files if file.is_file() and file not in seen]
    assert ROOT / "tests" / "services.py" in seen


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        graphlib.TopologicalSorter(GRAPH).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(" → ".join(reversed(exc.args[1])))


def test_the_reading_of_cards_needs_no_database() -> None:
    paths = {module.removesuffix(".__init__"): path for module, path in MODULES}
    reading = all_imports_of(READING)
    assert sum(is_under(module, READING) for module in reading) > 10
    needed = {name for module in reading for name in imported(paths[module], module)}
    assert [name for name in needed if is_under(name, "django.db") or is_under(name, "django.contrib")] == []
    assert [module for module in reading if module.rpartition(".")[2] == "models"] == []
