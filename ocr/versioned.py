"""Optimistic locking: a row changes only from the version that its caller has seen, and writes its history.

The audit log gets a line in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import ObjectDoesNotExist
from django.db import models, transaction
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ocr.audit.recording import record_changes
from ocr.history import KtpChange
from ocr.refusals import Erased, NotOpen, Stale

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models.fields.related_descriptors import RelatedManager

#: the lines that are written at the end of ``recorded_last``
_waiting: ContextVar[list[Sequence[KtpChange]] | None] = ContextVar("waiting", default=None)


@contextlib.contextmanager
def recorded_last() -> Iterator[None]:
    """A transaction with several changes, or with work after a change, whose audit lines are written last.

    A transaction that has written a line blocks all other writers of the log until it commits.
    """
    lines: list[Sequence[KtpChange]] = []
    with transaction.atomic():
        token = _waiting.set(lines)
        try:
            yield
        finally:
            _waiting.reset(token)
        for of_one in lines:
            record_changes(of_one)


class Versioned(models.Model):
    """For ``KtpExtraction``: one conditional UPDATE per transition, so only one of two concurrent users succeeds."""

    version = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text=_("How often values or state have changed.")
    )

    if TYPE_CHECKING:
        history: RelatedManager[KtpChange]

    class Meta:
        abstract = True

    def _line(self, kind: KtpChange.Kind, user: User | None, **columns: Any) -> KtpChange:
        """A line of the history, to be saved with its change."""
        name = user.get_username() if user is not None else ""
        return KtpChange(extraction_id=self.pk, kind=kind, actor=user, actor_name=name, **columns)

    def _check_version(self, version: int) -> None:
        """Load the current row and check its version, which the conditional UPDATE will check again.

        Raises ``Stale`` and ``Erased``.
        """
        self._refresh()
        if self.version != version:
            self._refuse(version)

    def _move(self, version: int, rows: Q, lines: Sequence[KtpChange], **columns: Any) -> None:
        """Change the row if it still has ``version`` and is among ``rows``, and write the history with it.

        Raises ``Stale`` for another version, ``NotOpen`` if the row is not among ``rows``, and ``Erased`` if it was
        erased.
        """
        with transaction.atomic():
            found = type(self)._default_manager.filter(rows, pk=self.pk, version=version)
            is_moved = bool(found.update(version=F("version") + 1, **columns))
            if is_moved:
                for line in lines:
                    line.version = version + 1
                KtpChange.objects.bulk_create(lines)
                _record(lines)
        self._refresh()
        if not is_moved:
            self._refuse(version)

    def _refresh(self) -> None:
        try:
            self.refresh_from_db()
        except ObjectDoesNotExist:
            raise Erased from None

    def _refuse(self, version: int) -> NoReturn:
        if self.version != version:
            raise Stale(self.version, list(self.history.filter(version__gt=version).select_related("actor")))
        raise NotOpen


def _record(lines: Sequence[KtpChange]) -> None:
    waiting = _waiting.get()
    if waiting is None:
        record_changes(lines)
    else:
        waiting.append(lines)
