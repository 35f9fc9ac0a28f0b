"""Errors of refused transitions of a reading. When one is raised, nothing has changed."""

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
        #: the reading's current version
        self.version = version
        #: the changes that the caller has not seen, oldest first
        self.changes = changes


class NotOpen(Refused):
    """The state does not allow it: still being read, failed, decided already, or no decision that can be undone."""


class FlagsOpen(Refused):
    """These flags have been neither corrected nor confirmed."""

    def __init__(self, flags: Sequence[Problem]) -> None:
        super().__init__(f"{len(flags)} flags are open.")
        self.flags = flags


class NotRevealed(Refused):
    """NIK and date of birth must be seen before an approval (``OCR_REVEAL_BEFORE_APPROVAL``), and were not."""


class ReasonMissing(Refused):
    """The transition needs a reason in words, and none was given."""


class Erased(Http404):
    """The reading was erased meanwhile. It is not a ``Refused``, because no card is left for a page to show."""
