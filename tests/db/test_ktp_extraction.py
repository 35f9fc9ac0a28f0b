from __future__ import annotations

import datetime

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from ocr.extraction import complete_extraction, complete_finished, safe_name
from ocr.models import KtpExtraction, KtpImage
from ocr.reading.schema import empty_values
from ocr.submissions import INTERRUPTED_SECONDS
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import sweeper, transitions
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, answer, read_extraction, reading_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(django_user_model):
    return django_user_model.objects.create_user("person")


def codes(extraction):
    return [problem["code"] for problem in extraction.problems]


def test_nothing_happens_while_the_session_runs():
    extraction = reading_extraction()

    assert complete_extraction(extraction.pk).state == "reading"
    transitions.claim(extraction.session_id or "", worker="test")
    assert complete_extraction(extraction.pk).state == "reading"
    assert complete_finished() == 0


def test_a_finished_sessions_answer_becomes_the_reading():
    extraction = read_extraction(text=f"```json\n{CARD_JSON}\n```")

    assert extraction.state == "read"
    assert extraction.values == CARD
    assert extraction.fields_read == CARD
    assert extraction.raw_answer == f"```json\n{CARD_JSON}\n```"
    assert codes(extraction) == ["nik_unused_district"]
    assert not extraction.flagged
    assert extraction.review == "needs_review"
    assert extraction.seconds >= 0


def test_a_chunk_that_cannot_be_read_fails_its_reading_and_holds_up_no_other():
    broken, sound = reading_extraction(), reading_extraction()
    for extraction in (broken, sound):
        answer(extraction.session_id, CARD_JSON)
    Chunk.objects.filter(session=broken.session, index=1).update(delta={"type": "text"})

    assert complete_finished() == 2
    broken.refresh_from_db()
    sound.refresh_from_db()
    assert (broken.state, codes(broken)) == ("failed", ["session_lost"])
    assert sound.state == "read"


def test_a_value_that_the_model_was_not_sure_of_is_flagged_until_it_is_corrected(person):
    extraction = read_extraction(uncertain=CARD["nama"][:3])

    assert extraction.values == CARD
    assert extraction.flagged
    assert [problem["field"] for problem in extraction.problems if problem["code"] == "uncertain"] == ["nama"]

    extraction.correct(person, {"agama": "KRISTEN"}, extraction.version)
    assert "uncertain" in codes(extraction)
    extraction.correct(person, {"nama": "LAIN SEKALI"}, extraction.version)
    assert "uncertain" not in codes(extraction)
    # The model's own value is as uncertain as before.
    extraction.correct(person, {"nama": CARD["nama"]}, extraction.version)
    assert "uncertain" in codes(extraction)


def test_thinking_is_no_part_of_the_reading():
    extraction = reading_extraction()
    answer(extraction.session_id, CARD_JSON, reasoning='{"nik": "1111111111111111"}')

    extraction = complete_extraction(extraction.pk)

    assert extraction.values == CARD
    assert "1111" not in extraction.raw_answer


def test_completing_twice_changes_nothing():
    extraction = read_extraction()
    extraction.nama = "DIPERBAIKI"
    extraction.save()

    again = complete_extraction(extraction.pk)

    assert again.nama == "DIPERBAIKI"
    assert again.completed_at == extraction.completed_at


def test_of_two_processes_at_once_only_the_first_writes():
    extraction = reading_extraction()
    other = KtpExtraction.objects.get(pk=extraction.pk)

    assert extraction.mark_read(values=CARD, raw_answer=CARD_JSON, found=[])
    assert not other.mark_failed("session_lost")

    extraction.refresh_from_db()
    assert extraction.state == other.state == "read"
    assert extraction.values == CARD


def test_an_unreadable_answer_is_an_empty_reading_with_its_reason():
    extraction = read_extraction(text="no card here")

    assert extraction.state == "read"
    assert extraction.values == empty_values()
    assert codes(extraction) == ["not_json"]
    assert extraction.flagged


def test_characters_that_no_database_stores_are_left_out():
    extraction = read_extraction(text='{"nik": "1", "nama": "A\\u0000B\\ud800C"}')

    assert extraction.nama == extraction.fields_read["nama"] == "AB?C"


def test_an_answer_cut_off_by_the_token_limit_says_so():
    extraction = reading_extraction()
    answer(extraction.session_id, CARD_JSON[:60], reason="length")

    extraction = complete_extraction(extraction.pk)

    assert extraction.nik == CARD["nik"]
    assert "truncated" in codes(extraction)
    assert extraction.flagged


def test_a_failed_session_fails_the_reading_without_the_servers_words():
    extraction = reading_extraction()
    answer(extraction.session_id, "", error={"message": "CUDA died at 0x17", "type": "server_error"})

    extraction = complete_extraction(extraction.pk)

    assert extraction.state == "failed"
    assert codes(extraction) == ["generation_failed"]
    assert "CUDA" not in str(extraction.problems)
    assert extraction.values == empty_values()


def test_a_cancelled_session_fails_the_reading():
    extraction = reading_extraction()
    transitions.request_cancel(extraction.session_id or "")

    extraction = complete_extraction(extraction.pk)

    assert extraction.state == "failed"
    assert codes(extraction) == ["cancelled"]


def test_the_sweep_completes_what_no_web_process_waits_for():
    extraction = reading_extraction()
    answer(extraction.session_id, CARD_JSON)

    sweeper.sweep()

    extraction.refresh_from_db()
    assert extraction.state == "read"
    assert extraction.values == CARD


def test_a_session_that_expired_unread_fails_the_reading():
    extraction = reading_extraction()
    answer(extraction.session_id, CARD_JSON)
    sweeper.expire(extraction.session_id or "")

    assert complete_finished() == 1

    extraction.refresh_from_db()
    assert (extraction.state, codes(extraction)) == ("failed", ["session_lost"])


def test_an_extraction_that_never_got_its_session_is_given_up_after_a_while():
    fresh = KtpExtraction.objects.create()
    stale = KtpExtraction.objects.create(
        created_at=timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS + 1)
    )

    assert complete_finished() == 1

    fresh.refresh_from_db()
    stale.refresh_from_db()
    assert (fresh.state, stale.state) == ("reading", "failed")


def test_forgetting_the_session_keeps_the_reading():
    extraction = read_extraction()
    ChatSession.objects.filter(pk=extraction.session_id).delete()

    extraction.refresh_from_db()

    assert extraction.session is None
    assert extraction.values == CARD


def test_erasing_an_extraction_takes_its_image_with_it():
    read_extraction().delete()

    assert not KtpImage.objects.exists()


def test_a_correction_is_judged_anew_and_the_models_value_stays(person):
    extraction = read_extraction(text=FLAGGED_JSON)
    assert "nik_birth_date_differs" in codes(extraction)

    assert extraction.correct(person, {"nik": CARD["nik"]}, extraction.version)

    extraction.refresh_from_db()
    assert codes(extraction) == ["nik_unused_district"]
    assert not extraction.flagged
    assert extraction.fields_read["nik"] == "3171990201900001"


def test_what_the_parser_noted_stays_until_its_field_is_corrected(person):
    extraction = read_extraction(text=CARD_JSON.replace('"HINDU"', '"<agama>"'))
    assert "placeholder" in codes(extraction)

    extraction.correct(person, {"pekerjaan": "GURU"}, extraction.version)
    assert "placeholder" in codes(extraction)

    extraction.correct(person, {"agama": "HINDU"}, extraction.version)
    assert codes(extraction) == ["nik_unused_district"]


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "read", "completed_at": None},
        {"state": "reading", "completed_at": timezone.now()},
        {"review": "rejected", "reviewed_at": None},
        {"review": "needs_review", "reviewed_at": timezone.now()},
        {"review": "approved", "reviewed_at": timezone.now(), "state": "reading"},
    ],
)
def test_the_database_refuses_states_that_make_no_sense(columns):
    with pytest.raises(IntegrityError), transaction.atomic():
        KtpExtraction.objects.create(**columns)


def test_lists_load_no_image(django_assert_num_queries):
    read_extraction()

    with django_assert_num_queries(1) as queries:
        (extraction,) = KtpExtraction.objects.read()
        assert extraction.masked_nik == "317199••••••0001"
    assert "ktpimage" not in queries[0]["sql"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("ktp.jpg", "ktp.jpg"),
        ("/home/budi/ktp.jpg", "ktp.jpg"),
        ("C:\\Users\\budi\\ktp.jpg", "ktp.jpg"),
        ("../../etc/passwd", "passwd"),
        ("a\x00b\n.jpg", "ab .jpg"),
        ("x" * 300 + ".jpg", "x" * 96 + ".jpg"),
        ("", ""),
    ],
)
def test_of_a_file_name_only_its_safe_last_part_is_kept(sent, kept):
    assert safe_name(sent) == kept
