"""Why a transition of a reading was not made. Nothing has changed when one of these is raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.http import Http404

if TYPE_CHECKING:
    from ocr.history import KtpChange
    from ocr.reading.problems import Problem


class Refused(Exception):
    """The transition is not possible now."""


class Stale(Refused):
    """The reading is no longer at the version that the caller has seen."""

    def __init__(self, version: int, changes: Sequence[KtpChange]) -> None:
        super().__init__(f"The reading is at version {version}.")
        #: of the reading now
        self.version = version
        #: what the caller has not seen: who changed what, and when; oldest first
        self.changes = changes


class NotOpen(Refused):
    """The state does not allow it: still being read, failed, decided already, or no decision that can be undone."""


class FlagsOpen(Refused):
    """A person has neither corrected nor confirmed these."""

    def __init__(self, flags: Sequence[Problem]) -> None:
        super().__init__(f"{len(flags)} flags are open.")
        self.flags = flags


class ReasonMissing(Refused):
    """The transition needs a reason in words, and there is none."""


class Erased(Http404):
    """The reading was erased meanwhile. No ``Refused``: there is nothing left that a page could show beside it."""
