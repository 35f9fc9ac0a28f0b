"""Parse the ``Prefer`` header (RFC 7240): the preferences that this API supports."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: a longer header is ignored, because parsing it would block the event loop
MAX_CHARS = 1000
# The quantifiers are possessive: without backtracking the time is linear in the length of the header.
#: the text between two commas; a comma in quotes is part of it
_BETWEEN_COMMAS = re.compile(r"""(?:[^",]|"(?:[^"\\]|\\.)*+"?)++""")
#: one preference: a token, its value, and parameters, which are ignored
_PREFERENCE = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]++)\s*+(?:=\s*+("(?:[^"\\]|\\.)*+"|[^",;\s]*+)\s*+)?(?:;.*)?""")


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of a request. The defaults apply to a request without the header."""

    #: answer 202 at once, or after ``wait`` seconds; the caller GETs the reading later
    respond_async: bool = False
    #: whole seconds that the caller is willing to wait before the 202
    wait: int = 0
    #: answer 422 if nothing was read
    strict: bool = False

    @property
    def applied_async(self) -> str:
        """The value of ``Preference-Applied`` for a 202."""
        return f"respond-async, wait={self.wait}" if self.wait else "respond-async"


def read_preferences(header: str | None) -> Preferences:
    """Parse the header. The first of several equal preferences counts.

    Unknown and malformed preferences are ignored (RFC 7240, section 2), and so is a header longer than ``MAX_CHARS``.
    """
    found: dict[str, str] = {}
    for part in _BETWEEN_COMMAS.findall(header or "") if len(header or "") <= MAX_CHARS else ():
        if preference := _PREFERENCE.fullmatch(part.strip()):
            found.setdefault(preference[1].lower(), (preference[2] or "").strip('"'))
    wait = found.get("wait", "")
    return Preferences(
        respond_async="respond-async" in found,
        wait=min(int(wait), 3600) if wait.isascii() and wait.isdigit() and len(wait) < 10 else 0,
        strict=found.get("handling", "").lower() == "strict",
    )
