"""The figures of ``sessions_app.figures`` as template filters."""

from __future__ import annotations

from django import template

from sessions_app import figures, storable, transcript

register = template.Library()
register.filter("moment", figures.moment)
register.filter("size", figures.size)
register.filter("indented_json", transcript.as_json)
register.filter("storable", storable.storable_text)
