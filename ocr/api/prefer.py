"""The ``Prefer`` header (RFC 7240): what the caller would like, as far as this API knows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: one preference: a token, its value, and parameters, which no preference here has
_PREFERENCE = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^",;\s]*))?\s*(?:;[^,]*)?(?:,|$)"""
)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a request asks for by ``Prefer``. The default is what a request without the header gets."""

    #: answer 202 at once, or after ``wait`` seconds, and let the caller come back for the reading
    respond_async: bool = False
    #: whole seconds that the caller is willing to wait before the 202
    wait: int = 0
    #: answer 422 where there is no reading to give
    strict: bool = False

    @property
    def applied_async(self) -> str:
        """For ``Preference-Applied`` of a 202."""
        return f"respond-async, wait={self.wait}" if self.wait else "respond-async"


def read_preferences(header: str | None) -> Preferences:
    """Of a preference that comes several times the first counts; unknown and malformed ones are ignored, as RFC 7240
    says in its section 2."""
    found: dict[str, str] = {}
    for token, value in _PREFERENCE.findall(header or ""):
        found.setdefault(token.lower(), value.strip('"'))
    wait = found.get("wait", "")
    return Preferences(
        respond_async="respond-async" in found,
        wait=min(int(wait), 3600) if wait.isascii() and wait.isdigit() and len(wait) < 10 else 0,
        strict=found.get("handling", "").lower() == "strict",
    )
