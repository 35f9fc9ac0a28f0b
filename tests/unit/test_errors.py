"""The hierarchy of errors: what a class sets, what one error overrides, and what comes back from a session's row."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.errors import ApiError, SessionConflict, SessionExpired, SessionNotFound, Unavailable


def test_an_error_has_its_classs_members_but_for_those_it_is_given() -> None:
    error = Unavailable("Later.", code="too_many_streams", status=529, may_retry=False)
    assert (error.status, error.type, error.code, error.may_retry) == (529, "server_error", "too_many_streams", False)
    assert (Unavailable.status, Unavailable.code, Unavailable.may_retry) == (503, "unavailable", True)


@pytest.mark.parametrize("error", [ApiError("m", param="n", code="c"), Unavailable("m"), SessionNotFound("a")])
def test_an_error_comes_back_from_the_row_of_its_session_as_it_was(error: ApiError) -> None:
    again = ApiError.from_dict(error.as_dict(), status=error.status, headers={"X-Session-ID": "a"})
    assert again.as_dict() == error.as_dict()
    assert (again.status, again.headers) == (error.status, {"X-Session-ID": "a"})


@pytest.mark.parametrize("stored", [{}, {"message": None, "type": None, "code": None}])
def test_a_stored_error_without_members_is_a_failed_generation(stored: dict[str, Any]) -> None:
    error = ApiError.from_dict(stored, status=500)
    assert (error.message, error.type, error.code) == ("The generation failed.", "server_error", "generation_failed")


@pytest.mark.parametrize(("status", "may_retry"), [(429, True), (503, True), (400, False), (500, False), (502, False)])
def test_only_what_nobody_could_start_may_be_sent_again(status: int, may_retry: bool) -> None:
    assert ApiError.from_dict({"message": "m"}, status=status).may_retry is may_retry


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (SessionNotFound, 404, "session_not_found"),
        (SessionConflict, 409, "session_conflict"),
        (SessionExpired, 410, "session_expired"),
    ],
)
def test_errors_about_a_session_name_it_and_the_parameter(kind: Any, status: int, code: str) -> None:
    error = kind("sess_a")
    assert (error.status, error.code, error.param) == (status, code, "session_id")
    assert "sess_a" in error.message
