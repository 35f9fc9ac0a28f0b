"""Readings and pictures whose time is over are erased, in small batches, by the sweep and by command."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from ocr import retention
from ocr.audit.models import AuditEntry
from ocr.audit.recording import Actor
from ocr.checks import check_retention
from ocr.freezing import freeze
from ocr.models import KtpExtraction, KtpImage, KtpSession, Tombstone
from ocr.refusals import Erased
from ocr.tombstones import KeptDecision
from sessions_app.models import ChatSession, SessionMedia
from sessions_app.store.sweeper import sweep
from tests.db.ktp_cards import read_extraction, reading_extraction
from tests.db.session_states import open_session, png
from tests.db.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def reviewer() -> User:
    return User.objects.create_user("reviewer")


def aged(card: KtpExtraction, days: float, **columns: Any) -> KtpExtraction:
    """The same card, uploaded that many days ago."""
    at = timezone.now() - datetime.timedelta(days=days)
    KtpExtraction.objects.filter(pk=card.pk).update(created_at=at, **columns)
    KtpSession.objects.get_or_create(session_id=card.session_id or str(card.pk), extraction=card)
    card.refresh_from_db()
    return card


def left() -> set[Any]:
    return set(KtpExtraction.objects.values_list("pk", flat=True))


class TestRules:
    def test_a_reading_goes_a_year_after_its_upload(self, sent: list[str]) -> None:
        old, young = aged(read_extraction(), 365.1), aged(read_extraction(), 364.9)
        assert retention.purge()["retention"] == 1
        assert left() == {young.pk}
        assert Tombstone.objects.get().pk == old.pk

    def test_a_rejected_one_goes_a_month_after_the_decision(self, sent: list[str], reviewer: User) -> None:
        cards = [aged(read_extraction(), 100) for _ in range(2)]
        for card, days in zip(cards, (31, 29), strict=True):
            card.reject(reviewer, "blurred", "", card.version)
            decided = timezone.now() - datetime.timedelta(days=days)
            KtpExtraction.objects.filter(pk=card.pk).update(reviewed_at=decided)
        assert retention.purge()["rejected"] == 1
        assert left() == {cards[1].pk}
        assert Tombstone.objects.get().why == "rejected"

    def test_one_that_was_never_sent_goes_after_a_week(self, sent: list[str]) -> None:
        clerk = User.objects.create_user("clerk")
        aged(read_extraction(clerk), 8)
        aged(reading_extraction(clerk), 8)
        with_clerk, waiting = aged(read_extraction(clerk), 6), aged(read_extraction(), 8)
        assert retention.purge()["abandoned"] == 2
        assert left() == {with_clerk.pk, waiting.pk}

    def test_a_picture_goes_after_a_month_and_the_reading_stays(self, sent: list[str]) -> None:
        old, young = aged(read_extraction(), 31), aged(read_extraction(), 29)
        SessionMedia.objects.create(
            session_id=old.session_id or "",
            position=0,
            kind="image",
            content_type="image/png",
            sha256="",
            size=1,
            data=b"x",
        )
        assert retention.purge()["images"] == 1
        assert KtpImage.objects.get().extraction_id == young.pk
        assert not SessionMedia.objects.exists()
        old.refresh_from_db()
        assert old.image_removed_at is not None
        assert old.nik
        assert old.history.filter(kind="image_gone").count() == 1
        assert retention.purge() == {}

    def test_a_frozen_reading_stays_with_its_picture(self, sent: list[str], reviewer: User) -> None:
        card = aged(read_extraction(), 1000)
        freeze(card, "Case 12", by=Actor.of_user(reviewer), user=reviewer)
        assert retention.purge() == {}
        assert KtpImage.objects.count() == 1

    @override_settings(
        OCR_DATA_RETENTION_DAYS=0,
        OCR_IMAGE_RETENTION_DAYS=0,
        OCR_REJECTED_RETENTION_DAYS=0,
        OCR_ABANDONED_RETENTION_DAYS=0,
    )
    def test_zero_keeps_them_for_ever_and_the_checks_warn(self, sent: list[str]) -> None:
        aged(read_extraction(), 10_000)
        assert retention.purge() == {}
        assert retention.counts_due() == {}
        assert [found.id for found in check_retention(None)] == ["ocr.W001", "ocr.W002"]

    def test_the_defaults_pass_the_checks(self) -> None:
        assert check_retention(None) == []

    @override_settings(OCR_DATA_RETENTION_DAYS=20)
    def test_a_setting_without_effect_is_warned_of(self) -> None:
        assert [found.id for found in check_retention(None)] == ["ocr.W003", "ocr.W003"]


class TestPurge:
    def test_it_goes_in_small_batches_and_tells_how_far_it_is(
        self, sent: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "BATCH_READINGS", 2)
        for _ in range(5):
            aged(read_extraction(), 400)
        told: list[tuple[str, int]] = []
        retention.purge(progress=lambda step, count: told.append((step, count)))
        assert told == [("retention", 2), ("retention", 4), ("retention", 5)]
        assert left() == set()
        assert AuditEntry.objects.filter(action="purged").count() == 5

    def test_a_dry_run_counts_and_erases_nothing(self, sent: list[str]) -> None:
        aged(read_extraction(), 400)
        assert retention.counts_due() == {"retention": 1, "images": 1}
        assert KtpExtraction.objects.count() == 1

    def test_it_goes_on_without_the_keys_of_cards(self, sent: list[str], reviewer: User) -> None:
        """What nobody can read any more has an end too."""
        card = aged(read_extraction(), 400)
        card.correct(reviewer, {"nama": "SPECIMENTO LAIN"}, card.version)
        card.approve(reviewer, card.version)
        with override_settings(DATA_KEYS=[]):
            assert retention.purge()["retention"] == 1
        facts = KeptDecision.objects.get().facts
        assert facts["corrected"] == ["nama"]
        assert facts.keys() <= {"corrected", "missed", "flagged", "seconds"}

    def test_the_sweep_does_it(self, sent: list[str]) -> None:
        aged(read_extraction(), 400)
        sweep()
        assert left() == set()

    def test_two_at_once_erase_each_reading_once(self, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "BATCH_READINGS", 3)
        for _ in range(20):
            aged(read_extraction(), 400)
        counts = at_once(*[lambda: retention.purge()["retention"]] * 3)
        assert sum(counts) == 20
        assert left() == set()
        assert Tombstone.objects.count() == 20

    def test_a_decision_that_comes_first_keeps_the_reading(self, sent: list[str], reviewer: User) -> None:
        """The purge looks again under the lock: a rejected card that was reopened meanwhile stays."""
        card = aged(read_extraction(), 100)
        card.reject(reviewer, "blurred", "", card.version)
        KtpExtraction.objects.update(reviewed_at=timezone.now() - datetime.timedelta(days=50))
        card.refresh_from_db()

        def reopen() -> str:
            try:
                card.reopen(reviewer, "on second thought", card.version)
            except Erased:
                return "erased"
            return "reopened"

        outcome, purged = at_once(reopen, lambda: str(retention.purge()["rejected"]))
        assert (outcome, purged, KtpExtraction.objects.count()) in (("reopened", "0", 1), ("erased", "1", 0))

    def test_a_reading_that_a_reviewer_changes_waits_for_the_next_purge(self, sent: list[str]) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time")
        aged(read_extraction(), 400)
        free = aged(read_extraction(), 399)
        with transaction.atomic():
            KtpExtraction.objects.select_for_update().order_by("created_at").first()
            assert at_once(lambda: retention.purge()["retention"]) == [1]
            assert not KtpExtraction.objects.filter(pk=free.pk).exists()
        assert retention.purge()["retention"] == 1

    def test_a_session_without_its_reading_goes(self, sent: list[str]) -> None:
        """The process that opened it ended before it noticed that the reading was erased."""
        for age in (1, 10, 10):
            session = open_session(origin="ocr", media=[png()])
            at = timezone.now() - datetime.timedelta(minutes=age)
            ChatSession.objects.filter(pk=session.pk).update(created_at=at)
        chat = open_session()
        ChatSession.objects.filter(pk=chat.pk).update(created_at=timezone.now() - datetime.timedelta(minutes=10))
        own = aged(reading_extraction(), 0)
        ChatSession.objects.filter(pk=own.session_id).update(created_at=timezone.now() - datetime.timedelta(minutes=10))
        retention.sweep()
        assert ChatSession.objects.filter(origin="ocr").count() == 2
        assert ChatSession.objects.filter(pk__in=(chat.pk, own.session_id)).count() == 2


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_sweep_pauses_no_longer_than_it_may_purge(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retention, "time", clock)

    def erase_slowly(*args):
        clock.now += 0.4
        return 25

    monkeypatch.setattr(retention, "_erase_due", erase_slowly)
    assert sum(retention.purge(seconds=0.5).values()) == 25
    assert clock.now == pytest.approx(0.5)
