"""What reports of errors show: Django's debug pages (``DEBUG=1``), its mails, and reporters such as Sentry's.

They show where an error happened, and no value of a variable, form or file: any of them may be from a card or a chat.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.datastructures import MultiValueDict
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from sessions_app.middleware import Middleware, Steps
from sessions_app.traceback_scrubbing import forget_values

HIDDEN = "********"
#: a NIK, and whatever else is as long
_LONG_NUMBER = re.compile(r"\d{12,}")
#: types whose values say nothing about anybody; text and bytes are not among them
_PLAIN = (bool, type(None))


class ValuesHidden(SafeExceptionReporterFilter):
    """Hides values also with ``DEBUG``, and ``REDIS_URL``, which contains a password that Django does not look for."""

    hidden_settings = re.compile(f"{SafeExceptionReporterFilter.hidden_settings.pattern}|REDIS_URL", re.IGNORECASE)

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> MultiValueDict[str, Any]:
        sent = request.POST if request is not None else {}
        return MultiValueDict({name: [HIDDEN] for name in sent})

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, Any]:
        return {name: _Shown(value) for name, value in tb_frame.f_locals.items()}.items()


class _Shown:
    """A variable by its type."""

    def __init__(self, value: object) -> None:
        self._shown = repr(value) if isinstance(value, _PLAIN) else f"<{type(value).__name__}>"

    def __repr__(self) -> str:
        return self._shown


class Reporter(ExceptionReporter):
    """Of the files that were sent it shows the field, and of the message no long number."""

    def get_traceback_data(self) -> dict[str, Any]:
        data = super().get_traceback_data()
        data["request_FILES_items"] = [(name, HIDDEN) for name, _ in data.get("request_FILES_items", ())]
        for name in ("exception_value", "exception_notes"):
            if name in data:
                data[name] = _LONG_NUMBER.sub(HIDDEN, str(data[name]))
        for frame in data.get("frames", ()):
            # Causes are shown by their repr.
            frame["exc_cause"] = type(frame["exc_cause"]).__name__ if frame.get("exc_cause") else frame.get("exc_cause")
        return data


class ForgettingMiddleware(Middleware):
    """Forgets the values in the traceback of a view, before any reporter is told of the error."""

    def around(self, request: HttpRequest) -> Steps:
        response = yield
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        forget_values(error)
        return None
