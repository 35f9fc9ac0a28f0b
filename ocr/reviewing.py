"""The transitions of a reading by people: correct, confirm, send, claim, decide, reopen.

Every transition but the claim takes the version of the reading that its caller has seen: see ``ocr.versioned``.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ocr.flagged import Flagged, flag_key, problem_columns
from ocr.history import KtpChange, RejectReason
from ocr.lookup import value_lookups
from ocr.reading import problems
from ocr.reading.judging import judge_again
from ocr.reading.parsing import clean
from ocr.reading.schema import FIELD_BY_PATH
from ocr.refusals import FlagsOpen, NotOpen, ReasonMissing
from ocr.versioned import Versioned

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Kind = KtpChange.Kind

#: permission of a clerk to approve their own reading without a reviewer, if it has no flags
MAY_APPROVE_OWN = "ocr.approve_own_ktp"


class Reviewable(Flagged, Versioned):
    """The part of ``KtpExtraction``'s state machine that users drive. Methods raise the classes of ``ocr.refusals``."""

    class State(models.TextChoices):
        READING = "reading", _("Reading")
        READ = "read", _("Read")
        FAILED = "failed", _("Failed")

    class Review(models.TextChoices):
        NEEDS_REVIEW = "needs_review", _("Needs review")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")

    state = models.CharField(_("state"), max_length=8, choices=State, default=State.READING)
    submitted_at = models.DateTimeField(
        _("sent for review at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("It has waited for a reviewer since then."),
    )
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)

    review = models.CharField(_("review"), max_length=12, choices=Review, default=Review.NEEDS_REVIEW)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("reviewed by"),
    )
    reviewed_at = models.DateTimeField(_("reviewed at"), null=True, blank=True)
    reject_reason = models.CharField(
        _("reason of the rejection"),
        max_length=12,
        choices=RejectReason,
        default="",
        db_default="",
        blank=True,
        editable=False,
    )

    if TYPE_CHECKING:
        uploaded_by_id: int | None

    class Meta:
        abstract = True

    # --- Queries ---

    @property
    def is_readable(self) -> bool:
        """Whether there is something to review: a picture of something else has no values."""
        return self.state == self.State.READ and any(self.values.values())

    @property
    def is_open(self) -> bool:
        """Whether its values may be corrected: it was read and is not decided."""
        return self.state == self.State.READ and self.review == self.Review.NEEDS_REVIEW

    @property
    def is_with_clerk(self) -> bool:
        """Open, and not yet sent for review."""
        return self.is_open and self.submitted_at is None

    def is_claimed_by_other(self, user: User) -> bool:
        """Whether another reviewer has claimed it."""
        return (
            self.claimed_by_id not in (None, user.pk)
            and self.claimed_until is not None
            and self.claimed_until > timezone.now()
        )

    # --- Values ---

    def correct(self, user: User, values: Mapping[str, str], version: int) -> bool:
        """Store the values (by path) that differ; False if none does.

        The card is checked again. A confirmation is dropped when its value changes or its flag disappears. Raises
        KeyError for an unknown path.
        """
        self._check_version(version)
        now = self.values
        changed = {path: text for path, value in values.items() if (text := clean(value)) != now[path]}
        if not changed:
            return False
        found = judge_again(
            now | changed,
            values_read=self.fields_read,
            problems_read=[problems.from_dict(stored) for stored in self.problems_read],
        )
        flags = [flag_key(problem) for problem in found if problem.is_flag]
        self._move(
            version,
            self._open(),
            [self._line(Kind.CORRECTED, user, field=path, old=now[path], new=new) for path, new in changed.items()],
            confirmed=[key for key in self.confirmed if key in flags and key["field"] not in changed],
            **problem_columns(found),
            **{FIELD_BY_PATH[path].column: value for path, value in changed.items()},
            **value_lookups(changed),
        )
        return True

    def confirm(self, user: User, field: str | None, code: str | None, version: int) -> bool:
        """Confirm that the value is as printed, for one flag or (``code`` None) for every open one of the field.

        ``field`` None means the reading as a whole. Returns False if no such flag is open.
        """
        self._check_version(version)
        chosen = [flag for flag in self.open_flags if flag.field == field and code in (None, flag.code)]
        if not chosen:
            return False
        self._move(
            version,
            self._open(),
            [self._line(Kind.CONFIRMED, user, field=flag.field or "", code=flag.code) for flag in chosen],
            confirmed=[*self.confirmed, *(flag_key(flag) for flag in chosen)],
        )
        return True

    # --- The queue ---

    def send_for_review(self, user: User, version: int) -> None:
        """The clerk sends the reading to the reviewers' queue. Every flag must be answered."""
        self._check_version(version)
        if not (self.is_readable and self.is_with_clerk):
            raise NotOpen
        self._check_flags_answered()
        rows = self._open() & Q(submitted_at=None)
        self._move(version, rows, [self._line(Kind.SENT, user)], submitted_at=timezone.now())

    def claim(self, user: User) -> bool:
        """Claim the reading for this reviewer for ``OCR_CLAIM_MINUTES``; False if another reviewer has claimed it."""
        now = timezone.now()
        until = now + datetime.timedelta(minutes=settings.OCR_CLAIM_MINUTES)
        rows = type(self)._default_manager.filter(self._open(), pk=self.pk)
        with transaction.atomic():
            is_taken = rows.filter(Q(claimed_by=None) | Q(claimed_until__lte=now)).update(
                claimed_by=user, claimed_at=now, claimed_until=until
            )
            if is_taken:
                self._line(Kind.OPENED, user, version=self.version).save()
            else:
                is_taken = rows.filter(claimed_by=user).update(claimed_until=until)
        self._refresh()
        return bool(is_taken)

    def leave_unclear(self, user: User, note: str, version: int) -> None:
        """The reviewer cannot decide: the card goes back to the queue for another reviewer."""
        line = self._line(Kind.UNCLEAR, user, note=note.strip())
        self._move(version, self._open(), [line], **NO_CLAIM)

    # --- Decisions ---

    def approve(self, user: User, version: int) -> None:
        """A reviewer approves the values. The reading must have values, and every flag must be answered."""
        self._check_version(version)
        if not (self.is_open and self.is_readable):
            raise NotOpen
        self._check_flags_answered()
        self._decide(version, self.Review.APPROVED, self._line(Kind.APPROVED, user, facts=self._facts(user)))

    def approve_unreviewed(self, user: User, version: int) -> None:
        """A clerk approves their own reading without flags. Raises PermissionDenied without the right."""
        if not user.has_perm(MAY_APPROVE_OWN) or self.uploaded_by_id != user.pk:
            raise PermissionDenied
        self._check_version(version)
        if not (self.is_readable and self.is_with_clerk):
            raise NotOpen
        if self.flags:
            # A reading with a confirmed flag still needs a reviewer.
            raise FlagsOpen(self.flags)
        self._decide(version, self.Review.APPROVED, self._line(Kind.APPROVED_OWN, user, facts=self._facts(user)))

    def reject(self, user: User, reason: str, note: str, version: int) -> None:
        """A reviewer rejects the reading for one of ``RejectReason``; ``OTHER`` needs a note."""
        note = note.strip()
        if reason not in RejectReason or (reason == RejectReason.OTHER and not note):
            raise ReasonMissing
        line = self._line(Kind.REJECTED, user, reason=reason, note=note, facts=self._facts(user))
        self._decide(version, self.Review.REJECTED, line)

    def undo(self, user: User, version: int) -> None:
        """Undo one's own decision within ``OCR_UNDO_SECONDS``; the reading is claimed again."""
        now = timezone.now()
        since = now - datetime.timedelta(seconds=settings.OCR_UNDO_SECONDS)
        rows = Q(review__in=(self.Review.APPROVED, self.Review.REJECTED), reviewed_by=user, reviewed_at__gte=since)
        until = now + datetime.timedelta(minutes=settings.OCR_CLAIM_MINUTES)
        claim = {"claimed_by": user, "claimed_at": now, "claimed_until": until}
        self._move(version, rows, [self._line(Kind.UNDONE, user)], **self._undecided(), **claim)

    def reopen(self, user: User, reason: str, version: int) -> None:
        """Revoke a decision, for a reason in words. The reading waits for a reviewer again."""
        if not reason.strip():
            raise ReasonMissing
        rows = Q(review__in=(self.Review.APPROVED, self.Review.REJECTED))
        line = self._line(Kind.REOPENED, user, note=reason.strip())
        submitted_at = self.submitted_at or (timezone.now() if self.is_readable else None)
        self._move(version, rows, [line], submitted_at=submitted_at, **self._undecided())

    # --- Helpers ---

    def _open(self) -> Q:
        return Q(state=self.State.READ, review=self.Review.NEEDS_REVIEW)

    def _decide(self, version: int, review: Review, line: KtpChange) -> None:
        states = [self.State.READ]
        if review == self.Review.REJECTED:
            states.append(self.State.FAILED)
        rows = Q(state__in=states, review=self.Review.NEEDS_REVIEW)
        decided = {"review": review, "reviewed_by": line.actor, "reviewed_at": line.at, "reject_reason": line.reason}
        self._move(version, rows, [line], flagged=False, **decided, **NO_CLAIM)

    def _undecided(self) -> dict[str, Any]:
        return {
            "review": self.Review.NEEDS_REVIEW,
            "reviewed_by": None,
            "reviewed_at": None,
            "reject_reason": "",
            "flagged": bool(self.flags),
        }

    def _facts(self, user: User) -> dict[str, Any]:
        """The facts that the page about accuracy counts, without card data."""
        corrected = self.corrected_fields
        read = [problems.from_dict(stored) for stored in self.problems_read]
        named = {problem.field for problem in read if problem.is_flag}
        facts: dict[str, Any] = {
            "corrected": corrected,
            "missed": [path for path in corrected if path not in named],
            "flagged": sorted(path for path in named if path),
        }
        if self.claimed_by_id == user.pk and self.claimed_at is not None:
            facts["seconds"] = round((timezone.now() - self.claimed_at).total_seconds(), 1)
        return facts

    def _check_flags_answered(self) -> None:
        if flags := self.open_flags:
            raise FlagsOpen(flags)


NO_CLAIM: dict[str, Any] = {"claimed_by": None, "claimed_at": None, "claimed_until": None}
