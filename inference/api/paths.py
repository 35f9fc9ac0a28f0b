"""Which addresses are the API's, and how they are served. All paths here are without the prefix of a proxy."""

from __future__ import annotations

import re

#: paths that need no API key, and accept any Host header and plain http
PROBES = frozenset({"/health", "/live", "/ready"})
METRICS = "/metrics"

_WORK = re.compile(r"/(v1/|ktp-ocr(/|$))")
# Also with the slash that a base URL may end in (``//v1/models``) and in upper case: such clients want the API.
_ANY = re.compile(r"/+((v1|ktp-ocr|health|live|ready|metrics)(/|$)|openapi\.json$)", re.IGNORECASE)


def is_api_path(path: str) -> bool:
    """Whether errors at ``path`` are OpenAI's error object, also those that the API itself does not raise."""
    return _ANY.match(path) is not None


def begins_in_turn(path: str) -> bool:
    """Whether requests to ``path`` wait for each other. Probes do not: they check that the server is alive."""
    return _WORK.match(path) is not None


def is_served_on_the_loop(path: str) -> bool:
    """Whether every view at ``path`` is asynchronous. That of ``/openapi.json`` is not, because it takes long."""
    return begins_in_turn(path) or path in PROBES or path == METRICS
