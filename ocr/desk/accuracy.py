"""The page about accuracy in production. It shows shares and times, and no data of a card or person."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import formats
from django.utils.translation import gettext as _

from ocr.desk import charts
from ocr.desk.figures import Week, recent_weeks
from ocr.desk.rights import Rights
from ocr.reading.schema import FIELDS

#: thresholds of the share of corrected values at which a cell gets the next darker shade
SHADES = (0.0, 0.02, 0.05, 0.1, 0.2)


def accuracy(request: HttpRequest) -> HttpResponse:
    """Show corrections by field and week, wrong values without a flag, and the duration of reviews."""
    rights = Rights.of(request)
    if not rights.accuracy:
        raise PermissionDenied
    weeks = recent_weeks()
    approved = sum(week.approved for week in weeks)
    context = {
        **admin.site.each_context(request),
        "title": _("Accuracy in production"),
        "rights": rights,
        "weeks": weeks,
        "approved": approved,
        "rejected": sum(week.rejected for week in weeks),
        "field_rows": [(field.name, [_cell(week, field.path) for week in weeks]) for field in FIELDS],
        "missed_chart": charts.columns(
            [(_label(week), _percent(week.missed_share)) for week in weeks], unit=" %", decimals=2
        ),
        "seconds_chart": charts.columns([(_label(week), week.median_seconds) for week in weeks], unit=" s", decimals=0),
        "is_nav_sidebar_enabled": False,
    }
    return TemplateResponse(request, "ocr/desk/accuracy.html", context)


def _cell(week: Week, path: str) -> tuple[str, int]:
    """A share as text, and the shade of its cell."""
    share = week.corrected_share(path)
    if share is None:
        return "–", 0
    return f"{share:.0%}", sum(share > shade for shade in SHADES)


def _label(week: Week) -> str:
    return formats.date_format(week.monday, "j M")


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100
