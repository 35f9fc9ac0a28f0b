"""What people do to a reading, and what each is told when another was faster."""

from __future__ import annotations

import datetime
import threading

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.utils import timezone

from ocr.extraction import complete_extraction
from ocr.models import KtpChange, KtpExtraction
from ocr.refusals import FlagsOpen, NotOpen, ReasonMissing, Stale
from ocr.review_queue import ANY_FLAG, NO_FLAG, QueueFilters
from sessions_app.store import opening
from tests.db.ktp_cards import FLAGGED_JSON, answer, read_extraction, reading_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

NOT_A_CARD = "{" + ", ".join(f'"{key}": ""' for key in ("nik", "nama", "agama")) + "}"


@pytest.fixture
def alice(django_user_model):
    return django_user_model.objects.create_user("alice")


@pytest.fixture
def bob(django_user_model):
    return django_user_model.objects.create_user("bob")


def kinds(card):
    return list(card.history.values_list("kind", flat=True))


def open_session():
    with transaction.atomic():
        session, _ = opening.open_session(request={}, request_digest="", model="tiny", origin="ocr")
    return session


def last_line(card) -> KtpChange:
    line = card.history.last()
    assert line is not None
    return line


def answer_flags(card, user):
    for flag in card.open_flags:
        card.confirm(user, flag.field, flag.code, card.version)


# --- Versions ---


def test_two_people_never_overwrite_each_other(alice, bob):
    card = read_extraction()
    seen = card.version
    card.correct(alice, {"nama": "NAMA BARU"}, seen)

    with pytest.raises(Stale) as refused:
        KtpExtraction.objects.get().correct(bob, {"agama": "HINDU"}, seen)

    card.refresh_from_db()
    assert (card.nama, card.agama) == ("NAMA BARU", CARD["agama"])
    (change,) = refused.value.changes
    assert (change.actor, change.field, change.old, change.new) == (alice, "nama", CARD["nama"], "NAMA BARU")
    assert refused.value.version == card.version > seen


@pytest.mark.parametrize(
    "do",
    [
        lambda card, user, version: card.correct(user, {"nama": "LAIN"}, version),
        lambda card, user, version: card.confirm(user, "nik", None, version),
        lambda card, user, version: card.send_for_review(user, version),
        lambda card, user, version: card.leave_unclear(user, "", version),
        lambda card, user, version: card.approve(user, version),
        lambda card, user, version: card.reject(user, "blurred", "", version),
        lambda card, user, version: card.undo(user, version),
        lambda card, user, version: card.reopen(user, "why", version),
        lambda card, user, version: card.read_again(user, version),
    ],
)
def test_no_transition_is_made_on_what_its_caller_has_not_seen(alice, bob, do):
    card = read_extraction()
    seen = card.version
    card.correct(bob, {"nama": "DARI BOB"}, seen)
    before = KtpExtraction.objects.values().get()

    with pytest.raises(Stale):
        do(card, alice, seen)

    assert KtpExtraction.objects.values().get() == before
    assert kinds(card) == ["read", "corrected"]


def test_a_value_as_it_was_is_no_change(alice):
    card = read_extraction()

    assert not card.correct(alice, {"nama": f" {CARD['nama']} "}, card.version)
    assert kinds(card) == ["read"]


@pytest.mark.parametrize(("decide", "state"), [("approve", "approved"), ("reject", "rejected")])
def test_a_decided_card_is_read_only_until_it_is_reopened_with_a_reason(alice, bob, decide, state):
    card = read_extraction()
    if decide == "approve":
        card.approve(alice, card.version)
    else:
        card.reject(alice, "covered", "", card.version)
    assert (card.review, card.reviewed_by) == (state, alice)

    for again in (
        lambda: card.correct(bob, {"nama": "LAIN"}, card.version),
        lambda: card.approve(bob, card.version),
        lambda: card.reject(bob, "blurred", "", card.version),
        lambda: card.leave_unclear(bob, "", card.version),
    ):
        with pytest.raises(NotOpen):
            again()
    with pytest.raises(ReasonMissing):
        card.reopen(bob, "  ", card.version)
    card.reopen(bob, "the name is wrong", card.version)

    assert (card.review, card.reviewed_by, card.reject_reason) == ("needs_review", None, "")
    assert last_line(card).note == "the name is wrong"
    assert card.correct(bob, {"nama": "LAIN"}, card.version)


def test_only_what_was_read_can_be_approved(alice):
    card = reading_extraction()

    with pytest.raises(NotOpen):
        card.approve(alice, card.version)
    with pytest.raises(NotOpen):
        card.reject(alice, "blurred", "", card.version)
    card.mark_failed("cancelled")
    with pytest.raises(NotOpen):
        card.approve(alice, card.version)
    card.reject(alice, "not_ktp", "", card.version)
    assert card.review == "rejected"


def test_a_picture_in_which_nothing_was_read_cannot_be_approved(alice):
    card = read_extraction(None, NOT_A_CARD)
    answer_flags(card, alice)

    with pytest.raises(NotOpen):
        card.approve(alice, card.version)
    card.reject(alice, "not_ktp", "", card.version)
    assert card.review == "rejected"


# --- Flags ---


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nik", "abc"),
        ("nik", "٣١٧١٩٩٠١٠١٩٠٠٠٠١"),
        ("nik", "317199010190000"),
        ("tgl_lahir", "99-99-9999"),
        ("tgl_lahir", "kemarin"),
        ("berlaku_hingga", "30-02-2020"),
        ("nik", ""),
    ],
)
def test_a_value_that_is_no_number_or_no_date_must_be_confirmed_before_it_is_approved(alice, field, value):
    card = read_extraction()
    card.correct(alice, {field: value}, card.version)

    with pytest.raises(FlagsOpen) as refused:
        card.approve(alice, card.version)
    assert field in {flag.field for flag in refused.value.flags}
    answer_flags(card, alice)
    card.approve(alice, card.version)

    assert (card.review, card.values[field]) == ("approved", value)
    assert not card.flagged


def test_a_flag_is_answered_by_a_confirmation_or_a_correction(alice):
    card = read_extraction(text=FLAGGED_JSON)
    assert {flag.field for flag in card.open_flags} == {"nik", "tgl_lahir"}

    assert card.confirm(alice, "tgl_lahir", "nik_birth_date_differs", card.version)
    assert {flag.field for flag in card.open_flags} == {"nik"}
    assert not card.confirm(alice, "tgl_lahir", None, card.version)
    card.correct(alice, {"nik": CARD["nik"]}, card.version)

    assert card.open_flags == []
    assert card.confirmed == []  # the flag is gone, and what was said of it


def test_a_confirmation_is_dropped_when_the_value_changes(alice):
    card = read_extraction(text=FLAGGED_JSON)
    answer_flags(card, alice)
    assert card.open_flags == []

    card.correct(alice, {"nik": "3171990301900001"}, card.version)

    assert {flag.field for flag in card.open_flags} == {"nik"}
    assert card.is_confirmed(next(flag for flag in card.flags if flag.field == "tgl_lahir"))


# --- The queue ---


def test_a_clerks_reading_joins_the_queue_when_it_is_sent_and_one_of_the_api_at_once(alice):
    from_clerk, from_api = read_extraction(alice), read_extraction()
    assert list(KtpExtraction.objects.waiting_for_review()) == [from_api]

    from_clerk.send_for_review(alice, from_clerk.version)

    assert KtpExtraction.objects.waiting_for_review().count() == 2
    with pytest.raises(NotOpen):
        from_clerk.send_for_review(alice, from_clerk.version)


def test_a_clerk_answers_every_flag_before_sending(alice):
    card = read_extraction(alice, FLAGGED_JSON)

    with pytest.raises(FlagsOpen):
        card.send_for_review(alice, card.version)
    answer_flags(card, alice)
    card.send_for_review(alice, card.version)

    assert card.submitted_at is not None


@pytest.mark.parametrize("by_clerk", [True, False])
@pytest.mark.parametrize("text", ["no card at all", NOT_A_CARD])
def test_what_is_no_card_never_joins_the_queue(alice, by_clerk, text):
    card = read_extraction(alice if by_clerk else None, text)

    assert not card.is_readable
    assert not KtpExtraction.objects.waiting_for_review().exists()
    with pytest.raises(NotOpen):
        card.send_for_review(alice, card.version)


def test_what_failed_or_was_cancelled_never_joins_the_queue(alice):
    for code in ("cancelled", "generation_failed", "session_lost"):
        reading_extraction().mark_failed(code)

    assert not KtpExtraction.objects.waiting_for_review().exists()
    card = KtpExtraction.objects.all()[0]
    card.reject(alice, "blurred", "", card.version)
    card.reopen(alice, "a mistake", card.version)
    assert not KtpExtraction.objects.waiting_for_review().exists()


def test_the_next_card_is_the_oldest_flagged_one_and_nobody_gets_it_twice(alice, bob):
    clean, flagged, younger = read_extraction(), read_extraction(text=FLAGGED_JSON), read_extraction(text=FLAGGED_JSON)

    assert KtpExtraction.objects.claim_next_for(alice) == flagged
    assert KtpExtraction.objects.claim_next_for(bob) == younger
    # Whoever asks again goes on with the card that is open.
    assert KtpExtraction.objects.claim_next_for(alice) == flagged
    assert kinds(flagged) == ["read", "opened"]
    assert flagged.version == KtpExtraction.objects.get(pk=flagged.pk).version
    younger.refresh_from_db()
    assert younger.is_claimed_by_other(alice) and not younger.is_claimed_by_other(bob)
    assert not younger.claim(alice)

    flagged.refresh_from_db()
    answer_flags(flagged, alice)
    flagged.approve(alice, flagged.version)
    assert KtpExtraction.objects.claim_next_for(alice) == clean


def test_a_claim_expires(alice, bob):
    card = read_extraction()
    card.claim(alice)
    assert KtpExtraction.objects.claim_next_for(bob) is None

    KtpExtraction.objects.update(claimed_until=timezone.now() - datetime.timedelta(seconds=1))

    assert KtpExtraction.objects.claim_next_for(bob) == card


def test_an_unclear_card_goes_to_another_reviewer(alice, bob):
    card = read_extraction()
    card.claim(alice)

    card.leave_unclear(alice, "is this a 5?", card.version)

    assert KtpExtraction.objects.claim_next_for(alice) is None
    assert KtpExtraction.objects.claim_next_for(bob) == card


def test_the_queue_is_filtered(alice):
    clean, flagged = read_extraction(), read_extraction(text=FLAGGED_JSON)
    sent = read_extraction(alice)
    sent.send_for_review(alice, sent.version)
    today = timezone.localdate()

    def found(**filters):
        return set(KtpExtraction.objects.waiting_for_review().matching(QueueFilters(**filters)))

    assert found() == {clean, flagged, sent}
    assert found(flag=ANY_FLAG) == found(flag="nik_birth_date_differs") == {flagged}
    assert found(flag=NO_FLAG) == {clean, sent}
    assert found(uploader=alice.pk) == {sent}
    assert found(uploader=0) == {clean, flagged}
    assert found(day=today) == {clean, flagged, sent}
    assert found(day=today - datetime.timedelta(days=1)) == set()
    assert KtpExtraction.objects.claim_next_for(alice, QueueFilters(uploader=alice.pk)) == sent


@pytest.mark.django_db(transaction=True)
def test_reviewers_who_ask_at_the_same_moment_get_different_cards(django_user_model):
    cards = {read_extraction().pk for _ in range(3)}
    reviewers = [django_user_model.objects.create_user(f"reviewer-{number}") for number in range(4)]
    together, got = threading.Barrier(len(reviewers)), []

    def ask(reviewer):
        together.wait()
        try:
            got.append(KtpExtraction.objects.claim_next_for(reviewer))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(reviewer,)) for reviewer in reviewers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(str(card and card.pk) for card in got) == sorted([*map(str, cards), "None"])


# --- Deciding without a reviewer ---


def test_a_clerk_with_the_right_approves_an_own_reading_that_nothing_has_flagged(alice, bob):
    card, flagged = read_extraction(alice), read_extraction(alice, FLAGGED_JSON)
    with pytest.raises(PermissionDenied):
        card.approve_unreviewed(alice, card.version)
    right = Permission.objects.get(codename="approve_own_ktp")
    for user in (alice, bob):
        user.user_permissions.add(right)
    alice, bob = (type(user).objects.get(pk=user.pk) for user in (alice, bob))

    with pytest.raises(PermissionDenied):
        card.approve_unreviewed(bob, card.version)
    answer_flags(flagged, alice)
    with pytest.raises(FlagsOpen):
        flagged.approve_unreviewed(alice, flagged.version)
    card.approve_unreviewed(alice, card.version)

    assert (card.review, card.reviewed_by) == ("approved", alice)
    assert kinds(card) == ["read", "approved_own"]
    assert not KtpExtraction.objects.waiting_for_review().exists()


# --- Undo ---


def test_a_decision_can_be_undone_for_some_seconds_by_whoever_made_it(alice, bob):
    card = read_extraction(text=FLAGGED_JSON)
    card.reject(alice, "blurred", "", card.version)
    assert not card.flagged

    with pytest.raises(NotOpen):
        card.undo(bob, card.version)
    card.undo(alice, card.version)

    assert (card.review, card.flagged, card.reject_reason) == ("needs_review", True, "")
    assert card.claimed_by == alice
    assert kinds(card) == ["read", "rejected", "undone"]


def test_later_it_cannot_be_undone(alice, settings):
    settings.OCR_UNDO_SECONDS = 0
    card = read_extraction()
    card.approve(alice, card.version)

    with pytest.raises(NotOpen):
        card.undo(alice, card.version)


# --- History ---


def test_a_decision_says_what_was_corrected_and_what_no_flag_had_named(alice):
    card = read_extraction(text=FLAGGED_JSON)
    card.claim(alice)
    card.correct(alice, {"nik": CARD["nik"], "pekerjaan": "GURU"}, card.version)
    card.approve(alice, card.version)

    facts = last_line(card).facts
    assert facts["corrected"] == ["nik", "pekerjaan"]
    assert facts["missed"] == ["pekerjaan"]
    assert facts["flagged"] == ["nik", "tgl_lahir"]
    assert facts["seconds"] >= 0
    assert card.fields_read["nik"] == "3171990201900001"


def test_history_is_written_once_and_goes_with_its_card(alice):
    card = read_extraction()
    card.correct(alice, {"nama": "BARU"}, card.version)
    line = last_line(card)

    line.new = "LAIN"
    with pytest.raises(TypeError):
        line.save()
    with pytest.raises(TypeError):
        line.delete()
    card.delete()
    assert not KtpChange.objects.exists()


def test_history_names_a_person_whose_account_is_gone(alice):
    card = read_extraction()
    card.correct(alice, {"nama": "BARU"}, card.version)
    alice.delete()

    line = last_line(card)
    assert (line.actor, line.actor_name) == (None, "alice")


def test_a_reading_sent_again_starts_anew_and_its_history_keeps_what_it_was(alice):
    card = read_extraction(alice, FLAGGED_JSON)
    answer_flags(card, alice)

    card.read_again(alice, card.version, note="90")

    assert (card.state, card.session_id, card.nik, card.confirmed) == ("reading", None, "", [])
    assert last_line(card).facts["replaced"]["nik"] == "3171990201900001"
    assert not KtpExtraction.objects.abandoned(60).exists()
    card.session = open_session()
    card.save(update_fields=["session"])
    answer(card.session_id, FLAGGED_JSON)
    card = complete_extraction(card.pk)

    assert (card.state, card.nik, card.is_with_clerk) == ("read", "3171990201900001", True)
    assert kinds(card) == ["read", "confirmed", "confirmed", "read_again", "read"]


def test_what_was_sent_for_review_is_not_read_again(alice):
    card = read_extraction()

    with pytest.raises(NotOpen):
        card.read_again(alice, card.version)


# --- Roles ---


def test_the_four_roles_are_there_with_their_permissions():
    def of(name):
        return {
            f"{permission.content_type.app_label}.{permission.codename}"
            for permission in Group.objects.get(name=name).permissions.select_related("content_type")
        }

    assert of("Clerk") == {"ocr.add_ktpextraction"}
    assert {"ocr.review_ktp", "ocr.view_ktp_image", "ocr.change_ktpextraction"} <= of("Reviewer")
    assert {"sessions_app.cancel_chatsession", "inference.reload_modelworker"} <= of("Operator")
    assert {name for name in of("Operator") if name.startswith("ocr.")} == {
        "ocr.view_ktpcallback",
        "ocr.resend_ktpcallback",
    }
    assert "ocr.view_ktpchange" in of("Auditor") and "ocr.view_ktp_image" not in of("Auditor")
