"""The figures of ``sessions_app.admin.formatting`` as template filters."""

from __future__ import annotations

import datetime

from django import template

from sessions_app import storable, transcript
from sessions_app.admin import formatting

register = template.Library()
register.filter("moment", formatting.moment)
register.filter("size", formatting.size)
register.filter("duration", formatting.duration)
register.filter("rough", formatting.rough)
register.filter("count", formatting.count)
register.filter("rate", formatting.rate)
register.filter("indented_json", transcript.as_json)
register.filter("storable", storable.storable_text)


@register.filter
def figure(value: float | None, unit: str) -> str:
    """A value of a chart, in seconds where the unit is ``s``."""
    if value is None:
        return formatting.NONE
    if unit == "s":
        return formatting.duration(datetime.timedelta(seconds=value))
    return formatting.count(int(value)) if value == int(value) else formatting.rate(value)
