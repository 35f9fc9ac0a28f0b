"""The figures of ``sessions_app.admin.formatting`` as template filters."""

from __future__ import annotations

from django import template

from sessions_app import storable, transcript
from sessions_app.admin import formatting

register = template.Library()
register.filter("moment", formatting.moment)
register.filter("size", formatting.size)
register.filter("indented_json", transcript.as_json)
register.filter("storable", storable.storable_text)
