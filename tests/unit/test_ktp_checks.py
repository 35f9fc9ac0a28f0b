from __future__ import annotations

import datetime

import pytest

from ocr.reading.checks import run_checks
from ocr.reading.problem_texts import TEXTS
from ocr.reading.problems import Problem, from_dict, is_flagged
from ocr.reading.schema import empty_values
from ocr.reading.vocabularies import OCCUPATIONS, PROVINCE_CODES
from tests.ktp_card import CARD as CITIZEN

TODAY = datetime.date(2026, 8, 17)

FOREIGNER = {
    **CITIZEN,
    "jenis_kelamin": "MALE",
    "agama": "CHRISTIAN",
    "status_perkawinan": "MARRIED",
    "pekerjaan": "ENGINEER",
    "kewarganegaraan": "NORWAY",
    "berlaku_hingga": "31-12-2030",
}
#: what every specimen has: a district that no card can bear
UNUSED_DISTRICT = ("nik", "nik_unused_district", "info")


def found(card, **changes):
    values = {**card, **{key.replace("__", "."): value for key, value in changes.items()}}
    before = dict(values)
    problems = run_checks(values, today=TODAY)
    assert values == before, "a check must not change a value"
    return {(problem.field, problem.code, problem.severity) for problem in problems} - {UNUSED_DISTRICT}


def test_a_good_card_has_only_the_mark_of_a_specimen():
    assert run_checks(CITIZEN, today=TODAY) == [Problem("nik", "nik_unused_district", "info")]
    assert not is_flagged(run_checks(CITIZEN, today=TODAY))


@pytest.mark.parametrize(
    "changes",
    [
        {"nama": "SPECIMENTO"},
        {"nama": "DRS. H. SPECIMENTO UJIBACA, M.SI."},
        {"berlaku_hingga": "01-01-2017"},
        {"berlaku_hingga": "seumur hidup"},
        {"agama": "KEPERCAYAAN TERHADAP TUHAN YME"},
        {"agama": "BUDDHA"},
        {"agama": "-"},
        {"alamat__rt_rw": "-/-"},
        {"alamat__rt_rw": "03 / 04"},
        {"jenis_kelamin": "LAKI - LAKI"},
        {"nik": "3171994101900001", "jenis_kelamin": "PEREMPUAN"},
        {"nik": "3171992902000001", "tgl_lahir": "29-02-2000"},
        {"nik": "9171990101900001"},
        {"nik": "9671990101900001"},
        {"nik": "6501990101900001"},
        {"tgl_lahir": "01/01/1990"},
        {"nama": "SPECIMENTO " + "A" * 49},
    ],
    ids=str,
)
def test_what_genuine_cards_print_is_no_problem(changes):
    assert found(CITIZEN, **changes) == set()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"nik": "317199010190000"}, ("nik", "nik_not_16_digits", "error")),
        ({"nik": "31719901019000011"}, ("nik", "nik_not_16_digits", "error")),
        ({"nik": "317199O101900001"}, ("nik", "nik_not_16_digits", "error")),
        ({"nik": "3171 9901 0190 0001"}, ("nik", "nik_not_16_digits", "error")),
        ({"nik": "٣١٧١٩٩٠١٠١٩٠٠٠٠١"}, ("nik", "nik_not_16_digits", "error")),
        ({"nik": "3171993201900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171990001900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171994001900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171997201900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171999901900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171990113900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171990100900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171993102900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171992902900001"}, ("nik", "nik_bad_date", "error")),
        ({"nik": "3171990101900000"}, ("nik", "nik_serial_zero", "error")),
        ({"nik": "9771990101900001"}, ("nik", "nik_unknown_province", "warning")),
        ({"nik": "0071990101900001"}, ("nik", "nik_unknown_province", "warning")),
        ({"nik": "3100990101900001"}, ("nik", "nik_bad_regency", "warning")),
        ({"nik": "3170990101900001"}, ("nik", "nik_bad_regency", "warning")),
        ({"nik": ""}, ("nik", "empty", "error")),
        ({"nama": ""}, ("nama", "empty", "error")),
        ({"pekerjaan": ""}, ("pekerjaan", "empty", "warning")),
        ({"agama": ""}, ("agama", "empty", "info")),
        ({"nama": "SPEC1MENTO"}, ("nama", "name_has_digits", "warning")),
        ({"nama": "A" * 61}, ("nama", "name_too_long", "warning")),
        ({"tgl_lahir": "1 JANUARI 1990"}, ("tgl_lahir", "date_format", "warning")),
        ({"tgl_lahir": "31-02-1990"}, ("tgl_lahir", "date_unreal", "error")),
        ({"berlaku_hingga": "SEUMUR HIOUP"}, ("berlaku_hingga", "expiry_format", "warning")),
        ({"berlaku_hingga": "31-02-2017"}, ("berlaku_hingga", "date_unreal", "error")),
        ({"alamat__rt_rw": "0030004"}, ("alamat.rt_rw", "rt_rw_format", "warning")),
        ({"jenis_kelamin": "LAKI"}, ("jenis_kelamin", "unknown_gender", "warning")),
        ({"agama": "1SLAM"}, ("agama", "unknown_religion", "warning")),
        ({"status_perkawinan": "MARRIED"}, ("status_perkawinan", "unknown_marital_status", "warning")),
        ({"pekerjaan": "TUKANG SIHIR"}, ("pekerjaan", "unknown_occupation", "info")),
        ({"kewarganegaraan": "WN1"}, ("kewarganegaraan", "unknown_nationality", "warning")),
        ({"kewarganegaraan": "WNI."}, ("kewarganegaraan", "unknown_nationality", "warning")),
    ],
    ids=str,
)
def test_each_rule_flags_its_own_case_and_nothing_else(changes, problem):
    assert found(CITIZEN, **changes) == {problem}


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"nik": "3171990201900001"}, "tgl_lahir", "nik_birth_date_differs"),
        ({"nik": "3171990101910001"}, "tgl_lahir", "nik_birth_date_differs"),
        ({"nik": "3171994101900001"}, "jenis_kelamin", "nik_gender_differs"),
        ({"jenis_kelamin": "PEREMPUAN"}, "jenis_kelamin", "nik_gender_differs"),
    ],
)
def test_what_disagrees_with_the_number_is_flagged_on_both_since_either_may_be_misread(changes, field, code):
    assert found(CITIZEN, **changes) == {("nik", code, "warning"), (field, code, "warning")}


@pytest.mark.parametrize(
    ("year", "problem"),
    [
        ("2030", ("tgl_lahir", "birth_date_future", "error")),
        ("2020", ("tgl_lahir", "birth_date_too_young", "warning")),
        ("1890", ("tgl_lahir", "birth_date_too_old", "warning")),
    ],
)
def test_impossible_ages_are_flagged(year, problem):
    assert found(CITIZEN, tgl_lahir=f"01-01-{year}", nik=f"3171990101{year[2:]}0001") == {problem}


@pytest.mark.parametrize(
    ("born", "codes"),
    [
        (TODAY + datetime.timedelta(days=1), {"birth_date_future"}),
        (TODAY, {"birth_date_too_young"}),
        (datetime.date(2010, 8, 18), {"birth_date_too_young"}),
        (datetime.date(2010, 8, 17), set()),
        (datetime.date(1905, 8, 18), set()),
        (datetime.date(1905, 8, 17), {"birth_date_too_old"}),
    ],
    ids=str,
)
def test_an_age_counts_in_full_years_to_the_day(born, codes):
    problems = found(CITIZEN, tgl_lahir=f"{born:%d-%m-%Y}", nik=f"317199{born:%d%m%y}0001")
    assert {code for _, code, _ in problems} == codes


@pytest.mark.parametrize(("expiry", "is_expired"), [("16-08-2026", True), ("17-08-2026", False)])
def test_a_foreigners_card_is_valid_through_its_last_day(expiry, is_expired):
    codes = {code for _, code, _ in found(FOREIGNER, berlaku_hingga=expiry)}
    assert ("expired_foreigner" in codes) == is_expired


def test_foreigners_cards_may_be_in_english_and_their_expiry_counts():
    foreign = ("kewarganegaraan", "foreign_national", "info")

    assert found(FOREIGNER) == {foreign}
    assert found(FOREIGNER, berlaku_hingga="31-12-2020") == {
        foreign,
        ("berlaku_hingga", "expired_foreigner", "warning"),
    }
    assert found(FOREIGNER, kewarganegaraan="WNA") == {foreign}
    assert found(FOREIGNER, jenis_kelamin="FEMALE") == {
        foreign,
        ("nik", "nik_gender_differs", "warning"),
        ("jenis_kelamin", "nik_gender_differs", "warning"),
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"alamat__rt_rw": "0030004"}, ("alamat.rt_rw", "rt_rw_format", "info")),
        ({"berlaku_hingga": "PERMANENT"}, ("berlaku_hingga", "expiry_format", "info")),
    ],
)
def test_a_form_that_foreigners_cards_may_lack_is_no_flag_on_them(changes, problem):
    assert found(FOREIGNER, **changes) == {("kewarganegaraan", "foreign_national", "info"), problem}


@pytest.mark.parametrize("district", ["01", "68"])
def test_a_district_that_exists_is_no_problem(district):
    # No person has this number: there is no day 32.
    problems = run_checks({**CITIZEN, "nik": f"3171{district}3201900000"}, today=TODAY)

    assert "nik_bad_date" in {problem.code for problem in problems}
    assert "nik_unused_district" not in {problem.code for problem in problems}


@pytest.mark.parametrize("misread", ["WN1", "MNI"])
def test_a_misread_wni_does_not_soften_the_checks(misread):
    assert ("agama", "unknown_religion", "warning") in found(CITIZEN, kewarganegaraan=misread, agama="1SLAM")


def test_a_picture_of_something_else_gets_one_sentence():
    assert run_checks(empty_values(), today=TODAY) == [Problem(None, "nothing_read")]


def test_every_code_has_words_in_both_languages_and_every_word_is_used(request):
    import re

    sources = [*(request.config.rootpath / "ocr").rglob("*.py")]
    used = set()
    for source in sources:
        if source.name != "problem_texts.py":
            used |= set(re.findall(r'"([a-z0-9_]+)"', source.read_text(encoding="utf-8"))) & set(TEXTS)
    assert used == set(TEXTS)
    for text in TEXTS.values():
        assert text.id.strip() and text.en.strip() and text.id != text.en


def test_a_stored_problem_comes_back_the_same():
    problem = Problem("alamat.rt_rw", "rt_rw_format", "info")

    assert from_dict(problem.as_dict()) == problem
    assert Problem(None, "a_code_of_another_release").as_dict()["message"] == "a_code_of_another_release"


def test_the_tables_have_their_known_sizes():
    assert len(PROVINCE_CODES) == 38
    assert "97" not in PROVINCE_CODES
    assert len(OCCUPATIONS) == 99
