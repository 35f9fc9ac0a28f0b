"""A reading is erased everywhere, whoever writes at the same time, and nothing but its tombstone is left."""

from __future__ import annotations

import uuid
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from ocr import erasing, extraction
from ocr.audit.models import AuditEntry
from ocr.audit.recording import Actor
from ocr.desk.figures import recent_weeks
from ocr.erasing import erase
from ocr.extraction import announce_session
from ocr.freezing import Frozen, freeze, unfreeze
from ocr.models import KtpExtraction, KtpImage, KtpSession, Tombstone
from ocr.persons import receipts
from ocr.refusals import Erased, NotOpen, ReasonMissing
from ocr.tombstones import KeptDecision, Why
from sessions_app.models import ChatSession, Chunk, SessionEvent
from sessions_app.store import appending, transitions
from sessions_app.wakeups import Wakeup
from tests.db.ktp_cards import answer, read_extraction, reading_extraction
from tests.db.session_states import append, completed, open_session, png
from tests.db.threads import at_once

BY = Actor.of_server()


@pytest.fixture
def clerk() -> User:
    return User.objects.create_user("clerk")


def linked(card: KtpExtraction) -> KtpExtraction:
    KtpSession.objects.create(session_id=card.session_id or "", extraction=card)
    return card


def rows_that_name(*texts: str) -> dict[str, int]:
    """Of every table, how many of its rows contain one of these texts in any column."""
    found = {}
    for model in apps.get_models(include_auto_created=True):
        if count := sum(any(text in repr(row) for text in texts) for row in model._base_manager.values_list()):
            found[model._meta.label] = count
    return found


@pytest.mark.django_db(transaction=True)
class TestErase:
    def test_everything_about_the_reading_goes_and_a_tombstone_stays(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction(clerk))
        kept = linked(read_extraction(clerk))
        session_id, pk = card.session_id or "", card.pk
        card.correct(clerk, {"nama": "SPECIMENTO LAIN"}, card.version)

        erasure = erase([card], why=Why.REQUEST, by=BY, reference="PDP-7")

        assert erasure.readings == [pk]
        assert erasure.counts["ocr.KtpImage"] == 1
        assert erasure.counts["sessions_app.ChatSession"] == 1
        # Everywhere in the database, whatever tables there are.
        left = rows_that_name(str(pk), repr(pk), session_id)
        assert set(left) == {"ocr.Tombstone", "ocr.AuditEntry"}
        stone = Tombstone.objects.get(pk=pk)
        assert (stone.why, stone.by, stone.reference, stone.receipt) == ("request", "server", "PDP-7", erasure.receipt)
        assert KtpImage.objects.get().extraction_id == kept.pk
        assert ChatSession.objects.filter(pk=kept.session_id).exists()

    def test_every_session_that_has_read_the_card_goes(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction(clerk))
        again = completed(origin="ocr", media=[png()], session_id=announce_session(card.pk))
        KtpExtraction.objects.filter(pk=card.pk).update(session=again)

        erase([card], why=Why.REQUEST, by=BY)

        assert not ChatSession.objects.exists()
        assert not Chunk.objects.exists()

    def test_the_admins_log_keeps_who_and_when_and_loses_its_texts(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction(clerk))
        LogEntry.objects.log_actions(clerk.pk, [card], 2, change_message="Approved in bulk.", single_object=True)
        other = LogEntry.objects.create(
            user=clerk,
            content_type=ContentType.objects.get_for_model(User),
            object_id=str(card.pk),
            object_repr="someone",
            action_flag=2,
            change_message="kept",
        )

        erase([card], why=Why.REQUEST, by=BY)

        log = LogEntry.objects.exclude(pk=other.pk).get()
        assert (log.user, log.object_repr, log.change_message) == (clerk, "", "")
        other.refresh_from_db()
        assert other.change_message == "kept"

    def test_it_is_in_the_audit_log(self, sent: list[str]) -> None:
        card = linked(read_extraction())
        erasure = erase([card], why=Why.MISTAKE, by=BY)
        line = AuditEntry.objects.get(action="erased")
        assert line.card == card.pk
        assert line.facts["receipt"] == str(erasure.receipt)

    def test_the_figures_of_its_decision_stay_as_numbers(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction())
        card.correct(clerk, {"nama": "SPECIMENTO LAIN"}, card.version)
        card.approve(clerk, card.version)
        before = recent_weeks()[-1]

        erase([card], why=Why.RETENTION, by=BY)

        after = recent_weeks()[-1]
        assert (after.approved, after.corrected, after.missed) == (1, before.corrected, before.missed)
        assert not rows_that_name("SPECIMENTO")
        assert KeptDecision.objects.count() == 1

    def test_a_decision_that_was_taken_back_leaves_no_figure(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction())
        card.approve(clerk, card.version)
        card.reopen(clerk, "wrong", card.version)
        erase([card], why=Why.RETENTION, by=BY)
        assert not KeptDecision.objects.exists()

    def test_readings_that_are_gone_are_ignored(self, sent: list[str]) -> None:
        card = linked(read_extraction())
        erase([card], why=Why.REQUEST, by=BY)
        assert erase([card, uuid.uuid4()], why=Why.REQUEST, by=BY).readings == []
        assert Tombstone.objects.count() == 1

    def test_one_that_came_back_from_a_backup_can_be_erased_again(self, sent: list[str]) -> None:
        card = linked(read_extraction())
        first = erase([card], why=Why.REQUEST, by=BY)
        KtpExtraction.objects.create(pk=card.pk, model="tiny")
        again = erase([card], why=Why.RETENTION, by=BY)
        assert again.readings == [card.pk]
        assert Tombstone.objects.get().receipt == first.receipt
        assert receipts.verify(receipts.receipt_of(first)) == []
        assert receipts.verify(receipts.receipt_of(again)) == []

    def test_many_go_in_small_transactions(self, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(erasing, "BATCH_READINGS", 2)
        cards = [linked(read_extraction()) for _ in range(5)]
        batches: list[int] = []
        erase(cards, why=Why.REQUEST, by=BY, on_batch=lambda erasure: batches.append(len(erasure.readings)))
        assert batches == [2, 4, 5]


@pytest.mark.django_db(transaction=True)
class TestTheAdminsLog:
    def test_its_lines_about_a_card_are_found_by_an_index(self) -> None:
        """Otherwise each erasure reads every line that was ever written about any card."""
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, LogEntry._meta.db_table)
        assert ["content_type_id", "object_id"] in [each["columns"] for each in found.values() if each["index"]]


@pytest.mark.django_db(transaction=True)
class TestWhatRuns:
    def test_a_card_that_waits_is_never_read(self, sent: list[str], told: list[Wakeup]) -> None:
        card = reading_extraction()
        erase([card], why=Why.REQUEST, by=BY)
        assert transitions.claim(card.session_id or "", worker="gpu") is None
        # Whoever listened was sent the end.
        assert told[-1].chunks[-1].delta["type"] == "end"

    def test_the_worker_that_reads_it_writes_nothing_more(self, sent: list[str]) -> None:
        card = reading_extraction()
        session = transitions.claim(card.session_id or "", worker="gpu")
        assert session is not None
        assert append(session, "{")

        erase([card], why=Why.REQUEST, by=BY)

        assert not append(session, '"nik"')
        assert not append(session, "}", closing=appending.Closing())
        assert not ChatSession.objects.exists()
        assert not Chunk.objects.exists()
        assert not SessionEvent.objects.exists()

    def test_an_answer_that_comes_later_is_stored_nowhere(self, sent: list[str]) -> None:
        card = reading_extraction()
        answer(card.session_id, '{"nik": ""}')
        stale = KtpExtraction.objects.get(pk=card.pk)
        erase([card], why=Why.REQUEST, by=BY)
        with pytest.raises(Erased):
            extraction.complete_extraction(card.pk)
        with pytest.raises(Erased):
            stale.mark_read(values={"nik": "1"}, raw_answer="{}", found=[])
        assert not KtpExtraction.objects.exists()

    def test_a_session_that_opens_late_goes_at_once(self, sent: list[str]) -> None:
        card = KtpExtraction.objects.create(model="tiny")
        session = open_session(origin="ocr", media=[png()], session_id=announce_session(card.pk))
        erase([card], why=Why.REQUEST, by=BY)
        start = mock.patch.object(extraction, "_start_session", return_value=session)
        store = mock.patch.object(extraction, "_store", return_value=card)
        announce = mock.patch.object(extraction, "announce_session", return_value=session.pk)
        with start, store, announce, pytest.raises(Erased):
            async_to_sync(extraction.start_extraction)(image=mock.Mock(), file_name="", caller="")
        assert not ChatSession.objects.exists()

    def test_an_erased_reading_gets_no_further_session(self) -> None:
        card = KtpExtraction.objects.create(model="tiny")
        erase([card], why=Why.REQUEST, by=BY)
        with pytest.raises(Erased):
            announce_session(card.pk)

    def test_while_a_worker_writes(self, sent: list[str]) -> None:
        for _ in range(8):
            card = reading_extraction()
            session = transitions.claim(card.session_id or "", worker="gpu")
            assert session is not None

            def write(session: ChatSession = session) -> None:
                # Not for ever: SQLite's lock is not fair, and a writer that never pauses may keep it.
                for _ in range(100):
                    if not append(session, "text"):
                        return

            def remove(card: KtpExtraction = card) -> None:
                erase([card], why=Why.REQUEST, by=BY)

            at_once(write, remove)
            assert not ChatSession.objects.exists()
            assert not Chunk.objects.exists()
            assert not KtpExtraction.objects.exists()

    def test_while_a_reviewer_decides(self, sent: list[str], clerk: User) -> None:
        for _ in range(8):
            card = linked(read_extraction())

            def decide(card: KtpExtraction = card) -> str:
                try:
                    card.approve(clerk, card.version)
                except Erased:
                    return "erased"
                return "approved"

            def remove(pk: uuid.UUID = card.pk) -> str:
                return f"{len(erase([pk], why=Why.REQUEST, by=BY).readings)} erased"

            decided, removed = at_once(decide, remove)
            assert decided in ("approved", "erased")
            assert removed == "1 erased"
            assert not rows_that_name("SPECIMENTO")

    def test_while_another_erases_the_same(self, sent: list[str]) -> None:
        for _ in range(5):
            card = linked(read_extraction())
            removed = at_once(*[lambda card=card: len(erase([card.pk], why=Why.REQUEST, by=BY).readings)] * 3)
            assert sorted(removed) == [0, 0, 1]
            assert Tombstone.objects.filter(pk=card.pk).count() == 1


@pytest.mark.django_db(transaction=True)
class TestLegalHold:
    def test_a_frozen_reading_is_refused_with_the_reason_and_nothing_goes(self, sent: list[str], clerk: User) -> None:
        free, frozen = linked(read_extraction()), linked(read_extraction())
        assert freeze(frozen, "Case 12", by=Actor.of_user(clerk), user=clerk)

        with pytest.raises(Frozen, match="legal hold") as refused:
            erase([free, frozen], why=Why.REQUEST, by=BY)

        assert refused.value.pks == [frozen.pk]
        assert KtpExtraction.objects.count() == 2
        assert not Tombstone.objects.exists()

    def test_it_can_be_erased_once_it_is_unfrozen(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction())
        freeze(card, "Case 12", by=Actor.of_user(clerk), user=clerk)
        assert not freeze(card, "again", by=Actor.of_user(clerk), user=clerk)
        assert unfreeze(card, "Closed", by=Actor.of_user(clerk), user=clerk)
        card.refresh_from_db()
        assert (card.frozen_at, card.frozen_why) == (None, "")
        assert erase([card], why=Why.REQUEST, by=BY).readings == [card.pk]

    def test_both_are_in_its_history_and_in_the_audit_log(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction())
        freeze(card, "Case 12", by=Actor.of_user(clerk), user=clerk)
        unfreeze(card, "Closed", by=Actor.of_user(clerk), user=clerk)
        lines = card.history.filter(kind__in=("frozen", "unfrozen")).values_list("kind", "actor_name", "note")
        assert list(lines) == [("frozen", "clerk", "Case 12"), ("unfrozen", "clerk", "Closed")]
        assert AuditEntry.objects.filter(card=card.pk, action__in=("frozen", "unfrozen")).count() == 2

    def test_a_reason_is_needed(self, clerk: User) -> None:
        card = KtpExtraction.objects.create(model="tiny")
        with pytest.raises(ReasonMissing):
            freeze(card, "  ", by=Actor.of_user(clerk), user=clerk)

    def test_its_picture_is_not_replaced(self, sent: list[str], clerk: User) -> None:
        card = linked(read_extraction(clerk))
        freeze(card, "Case 12", by=Actor.of_user(clerk), user=clerk)
        with pytest.raises(NotOpen):
            card.read_again(clerk, card.version)
