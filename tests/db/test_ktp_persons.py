"""The auditor's pages: find a person, export, freeze, erase with a receipt. Nothing personal is in an address."""

from __future__ import annotations

import datetime
import io
import json
import re
import zipfile
from collections.abc import Iterable
from typing import IO, Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from ocr.audit.breach import Suspect, seen
from ocr.audit.models import AuditEntry
from ocr.audit.recording import Actor
from ocr.erasing import erase
from ocr.freezing import freeze
from ocr.models import KtpExtraction, Tombstone
from ocr.persons import export, receipts, urls
from ocr.tombstones import Why
from tests.db.ktp_cards import FLAGGED_JSON, FrozenMeanwhile, read_extraction
from tests.db.signing_in import signed_in
from tests.db.test_ktp_export import pieces_of
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

PERSON = "/admin/ocr/person/"
POSTED = ("export", "hold", "erase", "receipt")


@pytest.fixture
def auditor() -> Client:
    user = User.objects.create_user("auditor", is_staff=True)
    user.groups.add(Group.objects.get(name="Auditor"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def card(sent: list[str]) -> KtpExtraction:
    """One of the person's, beside one of somebody else's."""
    read_extraction(text=FLAGGED_JSON)
    return read_extraction()


def of(*cards: KtpExtraction, **more: Any) -> dict[str, Any]:
    pks = [str(card.pk) for card in cards]
    return {"shown": pks, "reading": pks, **more}


def words(content: bytes) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", content.decode()))


class TestWhoMay:
    @pytest.mark.parametrize("role", ["Clerk", "Reviewer", "Operator"])
    def test_other_roles_may_not(self, role: str) -> None:
        user = User.objects.create_user("somebody", is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        assert client.get(PERSON).status_code == 403
        assert client.get(f"{PERSON}verify/").status_code == 403
        assert [client.post(f"{PERSON}{name}/").status_code for name in POSTED] == [403] * 4
        assert "Persons" not in words(client.get("/admin/").content)

    @pytest.mark.parametrize(
        ("name", "permission"), [("export", "export_person_ktp"), ("hold", "freeze_ktp"), ("erase", "erase_ktp")]
    )
    def test_each_step_has_a_permission_of_its_own(self, card: KtpExtraction, name: str, permission: str) -> None:
        finder = signed_in("find_person_ktp", "view_ktpextraction")
        assert finder.post(f"{PERSON}{name}/", of(card)).status_code == 403
        page = finder.post(PERSON, {"nik": CARD["nik"]}).content.decode()
        assert f"/person/{name}/" not in page
        may = signed_in("find_person_ktp", permission)
        assert may.post(f"{PERSON}{name}/", of(card)).status_code != 403
        assert f"/person/{name}/" in may.post(PERSON, {"nik": CARD["nik"]}).content.decode()

    def test_nobody_is_sent_to_the_log_in(self) -> None:
        assert Client().post(PERSON, {"nik": CARD["nik"]}).status_code == 302

    def test_steps_are_never_a_get(self, auditor: Client) -> None:
        assert [auditor.get(f"{PERSON}{name}/").status_code for name in POSTED] == [405] * 4

    def test_all_pages_are_here(self) -> None:
        from django.contrib import admin

        assert {str(each.pattern) for each in urls.person_urls(admin.site)} == {
            "ocr/person/",
            "ocr/person/verify/",
            *(f"ocr/person/{name}/" for name in POSTED),
        }


class TestFinding:
    def test_by_nik_masked(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(PERSON, {"nik": "3171 9901 0190 0001", "reference": "PDP-12"})
        page = response.content.decode()
        assert str(card.pk) in page
        assert "1 reading" in words(response.content)
        assert CARD["nik"] not in page
        assert CARD["nama"] not in page
        assert "no-store" in response.headers["Cache-Control"]
        line = AuditEntry.objects.get(action="searched")
        assert (line.purpose, line.facts) == ("PDP-12", {"by": "nik", "count": 1, "cards": [str(card.pk)]})

    def test_by_name(self, auditor: Client, card: KtpExtraction) -> None:
        assert "2 readings" in words(auditor.post(PERSON, {"name": CARD["nama"].title()}).content)

    def test_nothing_found_is_said_with_what_to_try(self, auditor: Client, card: KtpExtraction) -> None:
        told = words(auditor.post(PERSON, {"nik": "3171995505900002"}).content)
        assert "Nothing is held." in told
        assert "by the whole name only" in told

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            ({}, "either the NIK or the name"),
            ({"nik": CARD["nik"], "name": CARD["nama"]}, "either the NIK or the name"),
            ({"nik": "31719901"}, "A NIK has 16 digits; this has 8."),
            ({"nik": CARD["nik"], "reference": CARD["nik"]}, "must not say whom"),
            ({"nik": CARD["nik"], "reference": "for Ani"}, "must not say whom"),
        ],
    )
    def test_what_cannot_be_searched_is_explained(
        self, auditor: Client, card: KtpExtraction, typed: dict[str, str], told: str
    ) -> None:
        response = auditor.post(PERSON, typed)
        assert response.status_code == 400
        assert told in words(response.content)
        assert not AuditEntry.objects.filter(action="searched").exists()

    @override_settings(DATA_KEYS=[])
    def test_without_keys_it_says_so(self, auditor: Client) -> None:
        response = auditor.post(PERSON, {"nik": CARD["nik"]})
        assert response.status_code == 503
        assert "DATA_KEYS" in words(response.content)

    def test_the_pages_are_in_indonesian_too(self, auditor: Client) -> None:
        auditor.cookies["django_language"] = "id"
        assert 'lang="id"' in auditor.get(PERSON).content.decode()


def listed(card: KtpExtraction) -> list[str]:
    """Where the log says that the card was shown in a list."""
    lines = AuditEntry.objects.filter(action="listed").order_by("sequence").values_list("facts", flat=True)
    return [facts["where"] for facts in lines if str(card.pk) in facts["cards"]]


class TestWhatIsShownIsRecorded:
    def test_by_a_search_so_that_it_is_in_a_breach(self, auditor: Client, card: KtpExtraction) -> None:
        auditor.post(PERSON, {"nik": CARD["nik"]})
        assert listed(card) == ["person"]
        now = timezone.now()
        day = datetime.timedelta(days=1)
        [found] = seen(Suspect.of("auditor"), now - day, now + day)
        assert (found.card, found.in_clear) == (card.pk, False)

    def test_by_each_page_about_erasing(self, auditor: Client, card: KtpExtraction) -> None:
        confirmed = of(card, confirmed="1", why="request", count="1")
        auditor.post(f"{PERSON}erase/", of(card))
        assert listed(card) == ["erase"]
        assert auditor.post(f"{PERSON}erase/", {**confirmed, "count": "2"}).status_code == 400
        assert listed(card) == ["erase"] * 2
        freeze(card, "Case 12", by=Actor.of_server())
        assert auditor.post(f"{PERSON}erase/", confirmed).status_code == 409
        assert listed(card) == ["erase"] * 3

    def test_by_each_page_about_legal_hold(self, auditor: Client, card: KtpExtraction) -> None:
        auditor.post(f"{PERSON}hold/", of(card, freeze="1", reason="Case 12"))
        auditor.post(f"{PERSON}hold/", of(card, freeze="1", reason=" "))
        assert listed(card) == ["person"] * 2


class TestReceiptInWords:
    def test_a_text_names_the_reason_and_the_tables(self, card: KtpExtraction) -> None:
        receipt = receipts.receipt_of(erase([card], why=Why.REQUEST, by=Actor.of_command()))
        text = receipts.as_text(receipt)
        assert "Reason: The holder asked for it" in text
        assert "KTP image (ocr.KtpImage): 1" in text

    def test_what_this_release_does_not_know_stays_as_it_is(self, card: KtpExtraction) -> None:
        receipt = receipts.receipt_of(erase([card], why=Why.REQUEST, by=Actor.of_command()))
        text = receipts.as_text({**receipt, "why": "later", "rows": {"ocr.Later": 2, "odd": 3}})
        assert "Reason: later" in text and "ocr.Later: 2" in text and "odd: 3" in text


class TestExport:
    def test_json(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(f"{PERSON}export/", of(card, format="json", reference="PDP-12"))
        content = b"".join(pieces_of(response))
        assert len(content) == int(response.headers["Content-Length"])
        [held] = json.loads(content)["readings"]
        assert held["values"]["nik"] == CARD["nik"]
        assert CARD["nik"] not in response.headers["Content-Disposition"]
        assert response.headers["Cache-Control"].find("no-store") >= 0
        line = AuditEntry.objects.get(action="exported")
        assert (line.card, line.purpose, line.facts["format"]) == (card.pk, "PDP-12", "json")

    def test_csv(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(f"{PERSON}export/", of(card, format="csv"))
        assert "readings.csv" in zipfile.ZipFile(io.BytesIO(b"".join(pieces_of(response)))).namelist()

    def test_it_holds_no_transaction_while_the_file_is_made_and_records_what_is_in_it(
        self, auditor: Client, card: KtpExtraction, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone, write, is_atomic = read_extraction(), export.write_json, []

        def write_meanwhile(cards: Iterable[KtpExtraction], file: IO[bytes]) -> int:
            is_atomic.append(connection.in_atomic_block)
            erase([gone], why=Why.REQUEST, by=Actor.of_command())
            return write(cards, file)

        monkeypatch.setattr(export, "write_json", write_meanwhile)
        response = auditor.post(f"{PERSON}export/", of(card, gone, format="json"))
        [held] = json.loads(b"".join(pieces_of(response)))["readings"]
        assert held["reading"]["id"] == str(card.pk)
        assert is_atomic == [False]
        assert AuditEntry.objects.get(action="exported").card == card.pk

    def test_nothing_ticked_is_said(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(f"{PERSON}export/", {"shown": [str(card.pk)], "format": "json"})
        assert response.status_code == 400
        assert "Tick the readings first." in words(response.content)
        assert str(card.pk) in response.content.decode()
        assert not AuditEntry.objects.filter(action="exported").exists()

    def test_an_id_that_is_none_is_refused(self, auditor: Client) -> None:
        assert auditor.post(f"{PERSON}export/", {"reading": ["1 OR 1"], "format": "json"}).status_code == 400


class TestLegalHold:
    def test_freeze_and_unfreeze_with_a_reason(self, auditor: Client, card: KtpExtraction) -> None:
        page = words(auditor.post(f"{PERSON}hold/", of(card, freeze="1", reason="Case 12")).content)
        assert "1 reading is frozen now." in page
        assert "Case 12" in page
        card.refresh_from_db()
        assert (card.frozen_by, card.frozen_why) == ("auditor", "Case 12")
        auditor.post(f"{PERSON}hold/", of(card, unfreeze="1", reason="Closed"))
        card.refresh_from_db()
        assert card.frozen_at is None

    def test_without_a_reason_nothing_is_frozen(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(f"{PERSON}hold/", of(card, freeze="1", reason=" "))
        assert response.status_code == 400
        assert "A reason is missing." in words(response.content)
        card.refresh_from_db()
        assert card.frozen_at is None


class TestErase:
    def answer(self, *cards: KtpExtraction, **more: Any) -> dict[str, Any]:
        return of(*cards, confirmed="1", why="request", count=str(len(cards)), reference="PDP-12", **more)

    def test_it_asks_first(self, auditor: Client, card: KtpExtraction) -> None:
        response = auditor.post(f"{PERSON}erase/", of(card, reference="PDP-12"))
        assert "Erase 1 reading permanently" in words(response.content)
        assert 'value="PDP-12"' in response.content.decode()
        assert "This field is required" not in words(response.content)
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_then_it_is_gone_and_the_receipt_can_be_kept_and_verified(
        self, auditor: Client, card: KtpExtraction
    ) -> None:
        response = auditor.post(f"{PERSON}erase/", self.answer(card))
        assert "1 reading is erased." in words(response.content)
        assert not KtpExtraction.objects.filter(pk=card.pk).exists()
        stone = Tombstone.objects.get(pk=card.pk)
        assert (stone.by, stone.why, stone.reference) == ("user:auditor", "request", "PDP-12")
        receipt = response.context["as_json"]
        assert CARD["nik"] not in receipt

        file = auditor.post(f"{PERSON}receipt/", {"receipt": receipt, "format": "json"})
        assert json.loads(file.content)["readings"] == [str(card.pk)]
        text = auditor.post(f"{PERSON}receipt/", {"receipt": receipt, "format": "text"})
        assert str(card.pk) in text.content.decode()

        upload = io.BytesIO(file.content)
        upload.name = "receipt.json"
        verified = auditor.post(f"{PERSON}verify/", {"file": upload})
        assert "its readings are gone" in words(verified.content)

    @pytest.mark.parametrize("change", [{"count": "2"}, {"count": ""}, {"why": "because"}, {"reference": "for Ani"}])
    def test_a_wrong_confirmation_erases_nothing(
        self, auditor: Client, card: KtpExtraction, change: dict[str, str]
    ) -> None:
        response = auditor.post(f"{PERSON}erase/", {**self.answer(card), **change})
        assert response.status_code == 400
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_a_frozen_one_is_named_with_its_reason(self, auditor: Client, card: KtpExtraction) -> None:
        freeze(card, "Case 12", by=Actor.of_server())
        for form in (of(card), self.answer(card)):
            page = words(auditor.post(f"{PERSON}erase/", form).content)
            assert "under legal hold" in page
            assert "Case 12" in page
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_the_reason_is_for_reviewers_and_those_who_may_freeze(self, auditor: Client, card: KtpExtraction) -> None:
        freeze(card, "Case 12", by=Actor.of_server())
        Group.objects.get(name="Auditor").permissions.remove(Permission.objects.get(codename="freeze_ktp"))
        found = words(auditor.post(PERSON, {"nik": card.nik}).content)
        asked = words(auditor.post(f"{PERSON}erase/", of(card)).content)
        assert "frozen" in found and "under legal hold" in asked
        assert "Case 12" not in found + asked

    def test_so_is_one_that_is_frozen_meanwhile(
        self, auditor: Client, card: KtpExtraction, frozen_meanwhile: FrozenMeanwhile
    ) -> None:
        frozen_meanwhile(card)
        response = auditor.post(f"{PERSON}erase/", self.answer(card))
        assert response.status_code == 409
        assert "Nothing was erased" in words(response.content)
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_the_way_back_keeps_the_choice(self, auditor: Client, card: KtpExtraction) -> None:
        other = read_extraction()
        form = {"shown": [card.pk, other.pk], "reading": [card.pk], "reference": "PDP-12"}
        page = auditor.post(PERSON, form).content.decode()
        assert page.count(" checked") == 1
        assert 'value="PDP-12"' in page

    def test_a_second_time_says_that_they_are_gone(self, auditor: Client, card: KtpExtraction) -> None:
        auditor.post(f"{PERSON}erase/", self.answer(card))
        assert "gone already" in words(auditor.post(f"{PERSON}erase/", of(card)).content)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"receipt": "x"}'])
    def test_what_is_no_receipt_is_said(self, auditor: Client, content: bytes) -> None:
        upload = io.BytesIO(content)
        upload.name = "receipt.json"
        response = auditor.post(f"{PERSON}verify/", {"file": upload})
        assert response.status_code == 400
        assert auditor.post(f"{PERSON}receipt/", {"receipt": content.decode("latin-1")}).status_code == 400


def test_no_address_of_these_pages_takes_a_query(auditor: Client, card: KtpExtraction) -> None:
    page = auditor.get(f"{PERSON}?nik={CARD['nik']}").content.decode()
    assert str(card.pk) not in page
    assert f'value="{CARD["nik"]}"' not in page
    assert 'method="get"' not in page
    assert reverse("admin:ktp_person") == PERSON
