"""Limit wrong passwords for a name from one address, for an address and for a name.

django-axes counts them in the database, for all web processes together, and refuses without looking at the password.
This module adds what it lacks: different limits, one try at a time, and a page that says when to try again.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import threading
from collections.abc import Iterator
from typing import Any, cast

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext_lazy as _

from sessions_app.client_address import client_block

#: An address may be that of a whole office, and a name may be attacked from many addresses: each of the two may fail
#: this many times as often as one name from one address.
WIDER_LIMIT = 4
#: upper bound of the rows read; the limits keep their number lower
MAX_ATTEMPTS = 1000
#: how long a log-in waits for another log-in from the same address
TURN_SECONDS = 10

#: Without a lock, simultaneous tries would all be checked before the first has failed. Addresses share these locks.
_turns = tuple(threading.Lock() for _ in range(64))


class LogInLimits(AxesDatabaseHandler):
    """``AXES_HANDLER``: locked by the strictest of the limits."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """``AXES_FAILURE_LIMIT`` when a limit is reached, else 0: the exact count is not used."""
        return settings.AXES_FAILURE_LIMIT if locked_until(request, credentials) else 0


def locked_until(request: HttpRequest, credentials: dict[str, Any] | None) -> datetime.datetime | None:
    """When this name may be tried from this address again; None when it may now."""
    name, address = get_client_username(request, credentials), axes_address(request)
    oldest = timezone.now() - settings.AXES_COOLOFF_TIME
    attempts = list(
        AccessAttempt.objects.filter(Q(username=name) | Q(ip_address=address), attempt_time__gt=oldest)
        .order_by("-attempt_time")
        .values_list("username", "ip_address", "attempt_time", "failures_since_start")[:MAX_ATTEMPTS]
    )
    limit = settings.AXES_FAILURE_LIMIT
    times = (
        _limit_reached(limit, [row[2:] for row in attempts if row[:2] == (name, address)]),
        _limit_reached(limit * WIDER_LIMIT, [row[2:] for row in attempts if row[1] == address]),
        _limit_reached(limit * WIDER_LIMIT, [row[2:] for row in attempts if row[0] == name]),
    )
    return max((time + settings.AXES_COOLOFF_TIME for time in times if time), default=None)


def _limit_reached(limit: int, attempts: list[tuple[datetime.datetime, int]]) -> datetime.datetime | None:
    """The time of the attempt at which the failures, counted from the newest attempt, reach the limit."""
    failures = 0
    for time, count in attempts:
        failures += count
        if failures >= limit:
            return time
    return None


def axes_address(request: HttpRequest) -> str | None:
    """``AXES_CLIENT_IP_CALLABLE``."""
    return client_block(request) or None


def axes_client(username: str, ip_address: str, *rest: Any) -> str:
    """``AXES_CLIENT_STR_CALLABLE``: who failed, for the log. Not the name: users may type their password there."""
    return ip_address or "a client without an address"


def locked_page(request: HttpRequest, *rest: Any) -> HttpResponse:
    """``AXES_LOCKOUT_CALLABLE``: that it is locked, and until when."""
    until = locked_until(request, getattr(request, "axes_credentials", None)) or timezone.now()
    seconds = max(1, math.ceil((until - timezone.now()).total_seconds()))
    context = {"until": until, "minutes": math.ceil(seconds / 60)}
    response = render(request, "registration/locked.html", context, status=429)
    response.headers["Retry-After"] = str(seconds)
    add_never_cache_headers(response)
    return response


class _InTurn(AuthenticationForm):
    """Checks one password of an address at a time."""

    error_messages = {
        "invalid_login": _("The user name or the password is wrong."),
        "inactive": _("This account is inactive."),
        "busy": _("The server is busy. Try again in a moment."),
    }

    def clean(self) -> dict[str, Any]:
        assert self.request is not None  # noqa: S101  (both log-in views give it)
        with self._turn(self.request):
            return super().clean()

    @contextlib.contextmanager
    def _turn(self, request: HttpRequest) -> Iterator[None]:
        lock = _turns[hash(client_block(request)) % len(_turns)]
        if not lock.acquire(timeout=TURN_SECONDS):
            raise forms.ValidationError(self.error_messages["busy"], code="busy")
        try:
            yield
        finally:
            lock.release()


class LogInForm(_InTurn):
    """The log-in form of the clerks' page."""


class AdminLogInForm(_InTurn, AdminAuthenticationForm):
    """The log-in form of the admin."""

    error_messages = {**AdminAuthenticationForm.error_messages, "busy": _InTurn.error_messages["busy"]}


class LogInView(LoginView):
    """The log-in page of all users: it redirects to the requested page, else to the page where the user works."""

    authentication_form = LogInForm

    def get_default_redirect_url(self) -> str:
        return resolve_url(start_page(cast("User", self.request.user)))


def start_page(user: User) -> str:
    """The name of the page: a reviewer's desk, a clerk's tray, or the admin for operators."""
    if user.is_superuser:
        return "admin:index"
    if user.is_staff and user.has_perm("ocr.review_ktp"):
        return "admin:ktp_review"
    if user.is_staff and not user.has_perm("ocr.add_ktpextraction"):
        return "admin:index"
    # That page tells a user without permission to upload which permission to ask for.
    return "ocr:upload"
