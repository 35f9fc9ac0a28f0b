"""The admin's filter by caller. It offers the callers with unfinished sessions, those with the most first."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sessions_app import turns

#: maximum number of callers offered; others are found by the search
MAX_CALLERS = 15


class CallerFilter(admin.SimpleListFilter):
    title = gettext_lazy("caller")
    parameter_name = "caller"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        holders = turns.unfinished_by_caller()
        offered = sorted(holders, key=lambda caller: (-sum(holders[caller]), caller))[:MAX_CALLERS]
        if (chosen := self.value()) and chosen not in offered:
            offered.append(chosen)
        return [(caller, _holding(caller, *holders.get(caller, (0, 0)))) for caller in offered if caller]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(caller=self.value()) if self.value() else None


def _holding(caller: str, waiting: int, running: int) -> str:
    return _("%(caller)s: %(waiting)d waiting, %(running)d running") % {
        "caller": caller,
        "waiting": waiting,
        "running": running,
    }
