"""Readings are found by NIK and name without storing either in plain text."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from ocr.models import KtpExtraction
from tests.db.ktp_cards import read_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = [("ocr", "0004_names_of_columns")]


def found(*, nik: str = "", name: str = "") -> list[KtpExtraction]:
    rows = KtpExtraction.objects.all()
    return list(rows.with_nik(nik) if nik else rows.with_name(name))


def test_a_reading_is_found_by_its_nik_and_its_name(sent, told):
    card = read_extraction()

    assert found(nik=CARD["nik"]) == [card]
    assert found(name=CARD["nama"].lower()) == [card]
    assert found(nik="3171990101900002") == found(name="SPECIMENTO") == []


def test_a_search_for_nothing_finds_nothing(sent, told):
    read_extraction(text="{}")

    assert list(KtpExtraction.objects.with_nik("")) == list(KtpExtraction.objects.with_name(" .")) == []


def test_a_corrected_reading_is_found_by_its_new_values_only(sent, told):
    card = read_extraction()

    card.correct(User.objects.create_user("reviewer"), {"nik": "3171990101900002", "nama": "Ujibaca"}, card.version)

    assert found(nik="3171990101900002") == found(name="UJIBACA") == [card]
    assert found(nik=CARD["nik"]) == found(name=CARD["nama"]) == []


def test_a_reading_that_is_sent_again_is_no_longer_found(sent, told):
    clerk = User.objects.create_user("clerk")
    card = read_extraction(clerk)

    card.read_again(clerk, card.version)

    assert found(nik=CARD["nik"]) == []


def test_readings_of_the_last_release_are_found_too(sent, told):
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    old = executor.loader.project_state(BEFORE).apps.get_model("ocr", "KtpExtraction")
    pk = old.objects.create(nik=CARD["nik"], nama=CARD["nama"]).pk
    old.objects.create()

    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())

    assert [card.pk for card in found(nik=CARD["nik"])] == [card.pk for card in found(name=CARD["nama"])] == [pk]
