"""What log calls in the code may say: the fields that every line has and no others, and never a whole session id."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.live.stack import ROOT

PACKAGES = ("config", "sessions_app", "inference", "ocr")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
#: request and worker come from where the line is written; these two may be given
GIVEN = {"session", "attempt"}
#: everything it does is inside ``attempt_scope``
IN_A_RUN = {"inference/worker/runner.py"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                    logger = node.func.value
                    if isinstance(logger, ast.Name) and logger.id in {"log", "logger", "access_log"}:
                        yield str(path.relative_to(ROOT)), node


CALLS = list(log_calls())
NAMING_A_SESSION = [
    pytest.param(path, call, id=f"{path}:{call.lineno}")
    for path, call in CALLS
    if any(isinstance(part, ast.Constant) and "session %s" in str(part.value) for part in call.args)
]


def given(call: ast.Call) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)


def test_a_line_is_given_no_field_that_the_formatters_do_not_write():
    fields = {
        (path, key.value)
        for path, call in CALLS
        if isinstance(extra := given(call), ast.Dict)
        for key in extra.keys
        if isinstance(key, ast.Constant)
    }

    assert {(path, field) for path, field in fields if field not in GIVEN} == set()


def test_calls_are_found():
    assert len(CALLS) > 50
    assert NAMING_A_SESSION


def test_no_line_has_a_whole_session_id():
    """A call that names an id must shorten it: the formatter cannot recognize an id that a client has chosen."""
    whole = {
        f"{path}:{call.lineno}: {name}"
        for path, call in CALLS
        for name in map(ast.unparse, call.args)
        if re.search(r"(^|\.)(session_id|session\.pk|session\.id)$", name)
    }

    assert whole == set()


@pytest.mark.parametrize(("path", "call"), NAMING_A_SESSION)
def test_a_line_about_a_session_has_it_as_a_field(path: str, call: ast.Call):
    assert path in IN_A_RUN or given(call) is not None
