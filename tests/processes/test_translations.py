"""Every text of the pages has an Indonesian translation, and what is served is compiled from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.live.stack import ROOT

pytestmark = pytest.mark.gettext

CATALOGUE = Path("config/locale/id/LC_MESSAGES/django.po")
COMMAND = ["makemessages", "--locale", "id", "--no-location", "--no-wrap", "--no-obsolete"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue as it is when the texts of the working tree are collected."""
    copy = tmp_path_factory.mktemp("texts")
    for name in ("config", "inference", "ocr", "sessions_app", "templates"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "SECRET_KEY": "unused"}
    subprocess.run([sys.executable, "manage.py", *COMMAND], cwd=copy, env=environment, check=True, timeout=120)
    return copy / CATALOGUE


def gettext(tool: str, *arguments: str | Path) -> str:
    command = [tool, *map(str, arguments)]
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout


@pytest.mark.parametrize("lacking", ["--untranslated", "--only-fuzzy"])
def test_every_text_has_a_translation_that_somebody_has_looked_at(collected: Path, lacking: str) -> None:
    found = gettext("msgattrib", lacking, "--no-obsolete", "--no-wrap", collected)
    assert [line for line in found.splitlines() if line.startswith("msgid ") and line != 'msgid ""'] == []


def test_the_catalogue_holds_no_text_that_is_used_nowhere(collected: Path) -> None:
    def texts(catalogue: Path) -> set[str]:
        # As gettext writes them all, without what differs from run to run.
        lines = gettext("msgattrib", "--no-obsolete", "--no-wrap", "--sort-output", catalogue).splitlines()
        return {line for line in lines if line.startswith("msgid")}

    assert texts(ROOT / CATALOGUE) - texts(collected) == set()


def test_a_translation_takes_the_values_that_its_text_takes() -> None:
    gettext("msgfmt", "--check", "-o", os.devnull, ROOT / CATALOGUE)


def test_what_is_served_is_what_was_translated(tmp_path: Path) -> None:
    fresh = tmp_path / "django.mo"
    gettext("msgfmt", "-o", fresh, ROOT / CATALOGUE)
    assert gettext("msgunfmt", (ROOT / CATALOGUE).with_suffix(".mo")) == gettext("msgunfmt", fresh)


def test_the_languages_of_the_site_are_those_that_are_translated() -> None:
    assert {code for code, _ in settings.LANGUAGES} == {"en", "id"}
