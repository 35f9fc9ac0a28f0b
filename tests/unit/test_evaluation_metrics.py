"""The figures of an evaluation, each against an example that is worked out by hand in the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ocr.evaluation.labelled import LabelledPicture
from ocr.evaluation.metrics import Rate, figures
from ocr.evaluation.results import ReaderAnswer, Result, failed_answer, normalise
from ocr.reading.judging import judge_answer
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS, empty_values
from tests.ktp_card import CARD

#: characters printed on ``CARD``, in the order of its fields
CARD_CHARACTERS = 16 + 18 + 13 + 10 + 9 + 24 + 7 + 13 + 13 + 5 + 5 + 15 + 3 + 12


def card(
    *read: tuple[str, str],
    hidden: frozenset[str] = frozenset(),
    problems: tuple[Problem, ...] = (),
    seconds: float = 1.0,
) -> Result:
    """``CARD`` without its hidden fields, read as it is but for the fields in ``read``."""
    printed = CARD | dict.fromkeys(hidden, "")
    specimen = LabelledPicture("1.jpg", Path("1.jpg"), "flat", True, printed, hidden, True)
    return Result(specimen, ReaderAnswer(printed | dict(read), problems, seconds))


def unread_card() -> Result:
    return Result(card().specimen, ReaderAnswer(empty_values(), (Problem(None, "not_json", "error"),), 1.0))


def other(values: dict[str, str] | None = None, *problems: Problem) -> Result:
    specimen = LabelledPicture("2.jpg", Path("2.jpg"), "landscape", False, empty_values(), frozenset(), True)
    return Result(specimen, ReaderAnswer(empty_values() | (values or {}), problems, 1.0))


# --- Intervals ---


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # z = 1.95996, z² = 3.84146. At 0 of n the interval is 0 to z² / (n + z²): 3.84146 / 13.84146.
        (0, 10, 0.0, 0.277533),
        (10, 10, 1 - 0.277533, 1.0),
        # centre 0.5, half z / (1 + z²/10) * sqrt(0.25/10 + z²/400) = 1.41600 * 0.186022
        (5, 10, 0.236593, 0.763407),
        # 3.84146 / 103.84146: "3 / n" is the rule of thumb, and Wilson is a little wider
        (0, 100, 0.0, 0.036994),
    ],
)
def test_a_share_has_wilsons_interval(hits: int, of: int, low: float, high: float) -> None:
    rate = Rate(hits, of)
    assert rate.share == hits / of
    assert rate.interval == pytest.approx((low, high), abs=1e-5)


def test_of_nothing_there_is_no_share_and_no_interval() -> None:
    assert Rate(0, 0).share is None
    assert Rate(0, 0).interval is None


# --- Exact ---


def test_values_are_compared_in_capitals_with_single_blanks_and_without_the_width_of_characters() -> None:
    assert normalise(" Jl.\u00a0 mawar\tNo. 7 ") == "JL. MAWAR NO. 7"
    assert normalise("３１７１") == "3171"
    assert normalise("O") != normalise("0")


def test_a_card_is_exact_when_all_its_fields_are() -> None:
    found = figures([card(("nama", "specimento  ujibaca")), card(("agama", "HINDI"), ("pekerjaan", ""))])
    # The first is right in all 14, the second in 12.
    assert found.card_exact == Rate(1, 2)
    assert found.field_exact == Rate(26, 28)
    assert found.exact_by_field["agama"] == Rate(1, 2)
    assert found.exact_by_field["nama"] == Rate(2, 2)


def test_a_hidden_field_is_exact_when_it_is_left_empty() -> None:
    hidden = frozenset({"nama", "agama"})
    assert figures([card(hidden=hidden)]).field_exact == Rate(14, 14)
    assert figures([card(("agama", "ISLAM"), hidden=hidden)]).field_exact == Rate(13, 14)


def test_without_a_reading_no_field_is_right_not_even_an_empty_one() -> None:
    hidden = frozenset({"nama"})
    unanswered = Result(card(hidden=hidden).specimen, failed_answer("503: full", seconds=9))
    found = figures([unread_card(), unanswered])
    assert found.field_exact == Rate(0, 28)
    assert (found.unreadable, found.failed) == (1, 1)
    assert found.anls_star == 0
    assert found.cer == 1


# --- NIK ---


def test_nik_digits_are_compared_position_by_position() -> None:
    def digits(printed: str, read: str) -> Rate:
        specimen = LabelledPicture("1.jpg", Path("1.jpg"), "flat", True, CARD | {"nik": printed}, frozenset(), True)
        return figures([Result(specimen, ReaderAnswer(CARD | {"nik": read}, (), 1.0))]).nik_digits

    assert digits("1234567890123456", "1234567890123456") == Rate(16, 16)
    assert digits("1234567890123456", "1234567890023456") == Rate(15, 16)
    # The first digit is left out: every other stands one place too far to the left.
    assert digits("1234567890123456", "234567890123456") == Rate(0, 16)
    assert digits("1234567890123456", "12345678901234567") == Rate(16, 16)
    assert digits("1234567890123456", "") == Rate(0, 16)


def test_a_hidden_nik_counts_neither_for_nor_against_reading_niks() -> None:
    found = figures([card(), card(("nik", "3171990101900007")), card(hidden=frozenset({"nik"}))])
    assert found.nik_exact == Rate(1, 2)
    assert found.nik_digits == Rate(31, 32)


# --- Letters ---


def test_the_character_error_rate_is_edits_for_each_printed_character() -> None:
    # One letter replaced, and the three characters of ". 7" left out, of 163.
    read = card(("nama", "SPECIMENTA UJIBACA"), ("alamat.name", "JL. MAWAR KHAYALAN NO"))
    assert CARD_CHARACTERS == 163
    assert figures([read]).cer == pytest.approx(4 / 163)
    # Over two cards: their edits over their characters, not the mean of their rates.
    assert figures([read, card()]).cer == pytest.approx(4 / 326)


def test_what_is_invented_in_a_hidden_field_is_no_matter_of_letters() -> None:
    assert figures([card(("nama", "SIAPA SAJA"), hidden=frozenset({"nama"}))]).cer == 0


def test_anls_star_is_the_mean_likeness_of_the_fields_and_nothing_below_one_half() -> None:
    read = card(
        ("agama", "HINDA"),  # 1 of 5 letters: 0.8
        ("status_perkawinan", "KAXXX"),  # 3 of 5: 0.4, so 0
        ("tgl_lahir", "01-01-"),  # 4 of 10: 0.6
        ("kewarganegaraan", "WNIWNI"),  # 3 of 6, the longer one: 0.5, which still counts
    )
    # The ten others are 1.
    assert figures([read]).anls_star == pytest.approx((10 + 0.8 + 0 + 0.6 + 0.5) / 14)


def test_for_anls_star_two_empty_values_are_alike_and_an_invented_one_is_like_nothing() -> None:
    hidden = frozenset({"nama"})
    assert figures([card(hidden=hidden)]).anls_star == 1
    assert figures([card(("nama", "SIAPA SAJA"), hidden=hidden)]).anls_star == pytest.approx(13 / 14)


# --- Safety ---


def test_a_wrong_value_is_unflagged_when_no_warning_or_error_names_its_field() -> None:
    problems = (
        Problem("agama", "unknown_religion"),
        # What is only worth knowing sends nobody to look; every specimen's NIK has this.
        Problem("nik", "nik_unused_district", "info"),
        Problem(None, "repaired"),
    )
    read = card(("agama", "HINDI"), ("nik", "3171990101900007"), ("nama", "SPECIMENTA UJIBACA"), problems=problems)
    assert read.wrong_and_unflagged == ["nik", "nama"]
    assert figures([read, card()]).wrong_unflagged == Rate(2, 28)


def test_a_value_that_is_missing_is_wrong_and_misleads_nobody() -> None:
    read = card(("agama", ""))
    assert read.wrong == ["agama"]
    assert read.wrong_and_unflagged == []


def test_the_flags_are_those_that_the_server_raises() -> None:
    reading = judge_answer('{"nik": "317199010190001", "nama": "SPECIMENTA UJIBACA"}', finish_reason="stop")
    read = Result(card().specimen, ReaderAnswer(reading.values, reading.problems, 1.0))
    # 15 digits are flagged; a misread name looks like any other.
    assert read.wrong_and_unflagged == ["nama"]


def test_values_in_hidden_fields_are_invented() -> None:
    hidden = frozenset({"nama", "agama", "alamat.rt_rw"})
    read = card(("nama", "SIAPA SAJA"), ("pekerjaan", "GURU"), hidden=hidden)
    assert read.invented == ["nama"]
    found = figures([read, card()])
    assert found.invented == Rate(1, 3)
    # Nobody was told of either.
    assert found.wrong_unflagged == Rate(2, 28)


def test_another_picture_is_rejected_by_a_readable_answer_with_nothing_in_it() -> None:
    found = figures(
        [
            other(None, Problem(None, "nothing_read")),
            other({"nama": "SIAPA SAJA"}),
            other(None, Problem(None, "not_json", "error")),
            Result(other().specimen, failed_answer("504: late", seconds=9)),
        ]
    )
    assert found.rejected == Rate(1, 4)
    assert (found.cards, found.others, found.failed, found.unreadable) == (0, 4, 1, 1)
    # They are no cards, so that they say nothing of how cards are read.
    assert found.card_exact == found.field_exact == found.wrong_unflagged == Rate(0, 0)
    assert found.cer is found.anls_star is None


# --- Time ---


def test_latency_is_that_of_the_pictures_that_were_answered() -> None:
    results: list[Any] = [card(seconds=seconds) for seconds in (5, 1, 4, 2, 3)]
    results.append(Result(card().specimen, failed_answer("gone", seconds=60)))
    found = figures(results)
    # In order 1 2 3 4 5: half way stands 3; at 95% of the four steps, 3.8 steps on, stands 4.8.
    assert (found.p50, found.p95) == pytest.approx((3, 4.8))


def test_without_an_answer_there_is_no_latency() -> None:
    found = figures([Result(card().specimen, failed_answer("gone", seconds=60))])
    assert (found.p50, found.p95) == (None, None)


def test_every_field_of_the_card_is_measured() -> None:
    assert list(figures([card()]).exact_by_field) == [field.path for field in FIELDS]
