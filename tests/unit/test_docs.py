"""The pages of the documentation name files that exist: a module that moves takes its mentions along."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.live.stack import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "training" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
FILES = {
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.*"), *ROOT.glob("[a-z]*/**/*.*")) if path.is_file()
}
#: of the project, or a name at the end of a path: pages leave out a folder that they have just named
NAMED = re.compile(r"`([\w./-]+\.(?:py|js|css|html|md|txt|lock|jinja))`")
LINKED = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text()

    missing = [name for name in NAMED.findall(text) if not any(f"/{file}".endswith(f"/{name}") for file in FILES)]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page: Path):
    links = LINKED.findall(page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []
