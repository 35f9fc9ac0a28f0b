"""The front page of the admin: what runs now, the last hour, day or month, and a way to stop what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import Error
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from config.now.charts import counted, history_of
from config.now.rights import Rights
from config.now.sharing import CachedResult, SharedCache
from config.now.snapshot import RECENT_MINUTES, recent, snapshot
from config.now.stopping import MAX_STOPPED, StopForm, can_be_stopped, stop
from sessions_app.history.series import SPANS, Point, Span, span_of

SPAN_NAMES = {
    "60m": gettext_lazy("60 minutes"),
    "24h": gettext_lazy("24 hours"),
    "30d": gettext_lazy("30 days"),
}

#: unit and value of the columns of the table
COLUMNS: tuple[tuple[str, Callable[[Point], float | None]], ...] = (
    ("", lambda point: point.tokens_per_second),
    ("", lambda point: point.queue),
    ("s", lambda point: point.first_token(0.5)),
    ("s", lambda point: point.first_token(0.95)),
    *(("", counted(name)) for name in ("opened", "completed", "failed", "cancelled", "errors", "takeovers", "resumes")),
)


def front_page(request: HttpRequest) -> dict[str, Any]:
    """The context of the figures on the admin's first page."""
    rights = Rights.of(request)
    return {"title": _("Now"), "rights": rights, "figures": _figures(request, rights), "span": _span(request)}


def figures(request: HttpRequest) -> HttpResponse:
    """The part of the page that refreshes itself."""
    rights = Rights.of(request)
    if not rights.sessions:
        raise PermissionDenied
    return HttpResponse(_figures(request, rights), headers={"Cache-Control": "no-store"})


def table(request: HttpRequest) -> HttpResponse:
    """The figures of the charts, for those who cannot see charts."""
    if not Rights.of(request).sessions:
        raise PermissionDenied
    span = _span(request)
    result = _cached(history_of(span.key))
    context = {
        **admin.site.each_context(request),
        "title": _("Figures as a table"),
        "history": result and result.value,
        "span": span,
        "spans": _spans(),
    }
    if history := context["history"]:
        context["rows"] = [(point, [(of(point), unit) for unit, of in COLUMNS]) for point in reversed(history.points)]
    return TemplateResponse(request, "admin/now/table.html", context)


def stop_one(request: HttpRequest, session_id: str) -> HttpResponseRedirect:
    """The button in a line of the running list."""
    _require_stop(request)
    if stop(request, can_be_stopped(session_id)):
        messages.success(request, _("The session is being stopped."))
    else:
        messages.info(request, _("The session has ended or is already being stopped."))
    return HttpResponseRedirect(reverse("admin:index"))


def stop_many(request: HttpRequest) -> HttpResponse:
    """Stop all sessions of a caller or of a worker, after a confirmation."""
    _require_stop(request)
    form = StopForm(request.POST if request.method == "POST" else request.GET)
    if not form.is_valid():
        raise BadRequest("One of caller and worker is needed.")
    if request.method == "POST":
        stopped = stop(request, form.sessions())
        text = ngettext("%d session is being stopped.", "%d sessions are being stopped.", stopped) % stopped
        messages.success(request, text)
        return HttpResponseRedirect(reverse("admin:index"))
    context = {
        **admin.site.each_context(request),
        "title": _("Stop sessions"),
        "form": form,
        "count": form.sessions().count(),
        "sessions": form.sessions().order_by("created_at").only("state", "model", "created_at")[:20],
        "most": MAX_STOPPED,
    }
    return TemplateResponse(request, "admin/now/stop.html", context)


def _require_stop(request: HttpRequest) -> None:
    if not Rights.of(request).stop:
        raise PermissionDenied


def _figures(request: HttpRequest, rights: Rights) -> SafeString:
    """The part that refreshes itself. Viewers with the same language and rights get the same text, made once."""
    if not rights.sessions:
        return SafeString()
    span = _span(request)
    now, past, history = _cached(snapshot), _cached(recent), _cached(history_of(span.key))
    results = [result for result in (now, past, history) if result is not None]
    is_old = len(results) < 3 or any(result.is_old for result in results)
    key = (get_language(), rights, span.key, *(result.read_at for result in results))
    if is_old or (text := _rendered.get(key)) is None:
        context = {
            "rights": rights,
            "now": now and now.value,
            "past": past and past.value,
            "history": history and history.value,
            "recent_minutes": RECENT_MINUTES,
            "span": span,
            "spans": _spans(),
            "is_old": is_old,
            "seconds_old": round(max((time.monotonic() - result.read_at for result in results), default=0)),
        }
        text = render_to_string("admin/now/figures.html", context)
        if len(_rendered) >= MAX_RENDERED:
            _rendered.clear()
        _rendered[key] = text
    return text


#: maximum cached texts of the current results; when there are more, all are dropped
MAX_RENDERED = 32
_rendered: dict[Any, SafeString] = {}


def _span(request: HttpRequest) -> Span:
    return span_of(request.GET.get("span", ""))


def _spans() -> list[tuple[str, Any]]:
    return [(span.key, SPAN_NAMES[span.key]) for span in SPANS]


def _cached(shared: SharedCache[Any]) -> CachedResult[Any] | None:
    """None if the database does not answer and has not answered since this process started."""
    try:
        return shared.get()
    except (Error, TimeoutError):
        return None
