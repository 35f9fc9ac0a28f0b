"""The ``Prefer`` header (RFC 7240): what the caller would like, as far as this API knows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: a longer header is ignored: reading one must not keep the event loop from other requests
MAX_CHARS = 1000
# None of these ever goes back over what it has matched, so that the work grows with the length of the header and no
# faster.
#: what stands between commas; a comma in quotes is a part of it
_BETWEEN_COMMAS = re.compile(r"""(?:[^",]|"(?:[^"\\]|\\.)*+"?)++""")
#: one preference: a token, its value, and parameters, which no preference here has
_PREFERENCE = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]++)\s*+(?:=\s*+("(?:[^"\\]|\\.)*+"|[^",;\s]*+)\s*+)?(?:;.*)?""")


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
    says in its section 2. So is a header of more than ``MAX_CHARS`` characters."""
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
