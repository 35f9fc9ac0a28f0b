"""``manage.py ktp``: find, export, erase with a receipt, freeze; the NIK is never an argument."""

from __future__ import annotations

import csv
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from ocr import retention
from ocr.audit.models import AuditEntry
from ocr.audit.recording import Actor
from ocr.erasing import erase
from ocr.models import KtpCallback, KtpExtraction, KtpImage, KtpSubmission, KtpSubmittedImage, Tombstone
from ocr.persons import receipts, stored_data
from ocr.tombstones import Why
from tests.db.ktp_cards import FLAGGED_JSON, FrozenMeanwhile, read_extraction
from tests.db.test_ktp_retention import aged
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

Ktp = Callable[..., str]


@pytest.fixture
def ktp(monkeypatch: pytest.MonkeyPatch) -> Ktp:
    """Runs the command with a text on standard input; what it printed."""

    def run(*args: str, stdin: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        out = io.StringIO()
        call_command("ktp", *args, stdout=out, stderr=io.StringIO())
        return out.getvalue()

    return run


@pytest.fixture
def card(sent: list[str]) -> KtpExtraction:
    """One of the person's, beside one of somebody else's."""
    read_extraction(text=FLAGGED_JSON)
    return read_extraction()


class TestWhom:
    @pytest.mark.parametrize("args", [("--nik", CARD["nik"]), (f"--nik={CARD['nik']}",), ("--name", CARD["nama"])])
    def test_personal_data_as_an_argument_is_refused_and_not_repeated(self, ktp: Ktp, args: tuple[str, ...]) -> None:
        with pytest.raises(CommandError, match="history of your shell") as refused:
            ktp("find", *args, stdin=CARD["nik"])
        assert CARD["nik"] not in str(refused.value)
        assert CARD["nama"] not in str(refused.value)

    def test_the_nik_is_read_from_standard_input(self, ktp: Ktp, card: KtpExtraction) -> None:
        printed = ktp("find", "--nik", stdin=f"{CARD['nik']}\n")
        assert str(card.pk) in printed
        assert printed.count("\n") == 2
        assert CARD["nik"] not in printed
        assert CARD["nama"] not in printed

    def test_blanks_and_dots_do_not_matter(self, ktp: Ktp, card: KtpExtraction) -> None:
        assert str(card.pk) in ktp("find", "--nik", stdin="3171.9901 0190 0001")

    def test_by_name(self, ktp: Ktp, card: KtpExtraction) -> None:
        printed = ktp("find", "--name", stdin=CARD["nama"].lower())
        assert printed.count("\n") == 3  # the other has the same name

    def test_by_id(self, ktp: Ktp, card: KtpExtraction) -> None:
        assert str(card.pk) in ktp("find", "--id", str(card.pk))

    @pytest.mark.parametrize(("typed", "told"), [("", "No NIK was given"), ("317199\n", "has 16 digits")])
    def test_what_is_no_nik_is_refused(self, ktp: Ktp, typed: str, told: str) -> None:
        with pytest.raises(CommandError, match=told):
            ktp("find", "--nik", stdin=typed)

    def test_a_corrected_nik_is_found_and_the_misread_one_is_not(self, ktp: Ktp, card: KtpExtraction) -> None:
        user = User.objects.create_user("reviewer")
        card.correct(user, {"nik": "3171995505900002"}, card.version)
        assert "Nothing is held." in ktp("find", "--nik", stdin=CARD["nik"])
        assert str(card.pk) in ktp("find", "--nik", stdin="3171995505900002")

    def test_a_search_is_in_the_audit_log_without_the_nik(self, ktp: Ktp, card: KtpExtraction) -> None:
        ktp("find", "--nik", stdin=CARD["nik"])
        line = AuditEntry.objects.get(action="searched")
        assert line.facts == {"by": "nik", "count": 1, "cards": [str(card.pk)]}
        assert line.actor_kind == "command"


class TestExport:
    def test_json_holds_everything(self, ktp: Ktp, card: KtpExtraction, tmp_path: Path) -> None:
        user = User.objects.create_user("reviewer")
        card.correct(user, {"pekerjaan": "GURU"}, card.version)
        card.approve(user, card.version)
        file = tmp_path / "copy.json"
        ktp("export", "--nik", "--output", str(file), stdin=CARD["nik"])
        [held] = json.loads(file.read_text())["readings"]
        assert held["values"]["pekerjaan"] == "GURU"
        assert held["values_read_by_the_model"]["pekerjaan"] == CARD["pekerjaan"]
        assert held["picture"]["content_type"] == "image/jpeg"
        assert [line["what"] for line in held["history"]] == ["read", "corrected", "approved"]
        assert held["history"][1]["old"] == CARD["pekerjaan"]
        assert "exported" in [line["what"] for line in held["audit"]]
        assert len(held["sessions"]) == 1
        assert file.stat().st_mode & 0o777 == 0o600

    def test_every_column_of_a_reading_with_its_holders_data_is_in_it(self, card: KtpExtraction) -> None:
        """A column that is added to the model is exported, or is named here with the reason."""
        held = json.dumps(stored_data.held_about(card), default=str)
        not_the_holders = {
            *("claimed_by", "claimed_at", "claimed_until", "version", "flagged", "read_again_at", "frozen_by"),
            *("problems_read", "caller", "nik_lookup", "name_lookup", "session"),
        }
        for field in KtpExtraction._meta.concrete_fields:
            value = field.value_from_object(card)
            if field.name in not_the_holders or value in (None, "", [], {}) or not isinstance(value, str):
                continue
            assert json.dumps(value)[1:-1] in held, field.name

    def test_the_address_and_digests_of_the_caller_of_the_api_are_not_in_it(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path
    ) -> None:
        KtpCallback.objects.create(
            extraction=card, caller="key:digest-of-key", url="https://bank.example/?token=s3cret", host="bank.example"
        )
        batch = KtpSubmission.objects.create(caller="key:digest-of-key", is_batch=False, count=1)
        KtpSubmittedImage.objects.create(submission=batch, position=0, digest="digest-of-picture", extraction=card)
        file = tmp_path / "copy.json"
        ktp("export", "--id", str(card.pk), "--output", str(file))
        text = file.read_text()
        [held] = json.loads(text)["readings"]
        assert held["ocr.ktpcallback"][0]["host"] == "bank.example"
        assert held["ocr.ktpsubmittedimage"][0]["submission"] == str(batch.pk)
        assert not any(secret in text for secret in ("s3cret", "digest-of"))

    def test_every_table_about_a_reading_is_in_it(self) -> None:
        relations = {relation.get_accessor_name() for relation in KtpExtraction._meta.related_objects}
        assert relations == {*stored_data.NAMED, *stored_data.OTHERS}

    def test_csv_has_tables_and_pictures_that_spreadsheets_run_nothing_of(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path
    ) -> None:
        user = User.objects.create_user("reviewer")
        card.correct(user, {"nama": "=HYPERLINK(1)", "pekerjaan": "-GURU"}, card.version)
        file = tmp_path / "copy.zip"
        ktp("export", "--id", str(card.pk), "--format", "csv", "--output", str(file))
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            assert archive.read(f"pictures/{card.pk}.jpg") == bytes(KtpImage.objects.get(pk=card.pk).data)
            raw = archive.read("readings.csv")
            history = list(csv.DictReader(io.StringIO(archive.read("history.csv").decode("utf-8-sig"))))
        assert {"readings.csv", "history.csv", "audit.csv", "sessions.csv"} <= set(names)
        assert raw.startswith(b"\xef\xbb\xbf")
        [row] = csv.DictReader(io.StringIO(raw.decode("utf-8-sig")))
        assert row["nik"] == f"'{CARD['nik']}"
        assert (row["nama"], row["pekerjaan"]) == ("'=HYPERLINK(1)", "'-GURU")
        assert "'=HYPERLINK(1)" in [line["new"] for line in history]

    def test_a_file_that_is_there_is_not_overwritten(self, ktp: Ktp, card: KtpExtraction, tmp_path: Path) -> None:
        file = tmp_path / "copy.json"
        file.write_text("precious")
        with pytest.raises(CommandError, match="cannot be written"):
            ktp("export", "--nik", "--output", str(file), stdin=CARD["nik"])
        assert file.read_text() == "precious"


class TestErase:
    def erase(self, ktp: Ktp, file: Path, *args: str) -> str:
        return ktp(
            *("erase", "--nik", "--why", "request", "--reference", "PDP-12", "--receipt", str(file), "--yes", *args),
            stdin=CARD["nik"],
        )

    def test_it_goes_and_the_receipt_can_be_verified(self, ktp: Ktp, card: KtpExtraction, tmp_path: Path) -> None:
        file = tmp_path / "receipt.json"
        printed = self.erase(ktp, file)
        assert "Receipt of an erasure" in printed
        receipt = json.loads(file.read_text())
        assert receipt["readings"] == [str(card.pk)]
        assert receipt["rows"]["ocr.KtpImage"] == 1
        assert (receipt["why"], receipt["reference"]) == ("request", "PDP-12")
        assert not any(value in file.read_text() + printed for value in CARD.values() if len(value) > 3)
        assert KtpExtraction.objects.count() == 1
        assert "genuine, and its 1 readings are gone" in ktp("verify", str(file))

    def test_nobody_to_ask_and_no_yes(self, ktp: Ktp, card: KtpExtraction) -> None:
        with pytest.raises(CommandError, match="--yes"):
            ktp("erase", "--nik", "--why", "request", stdin=CARD["nik"])
        assert KtpExtraction.objects.filter(pk=card.pk).exists()
        # What it has shown before it asked is recorded all the same.
        assert AuditEntry.objects.get(action="listed").facts["cards"] == [str(card.pk)]

    def test_a_frozen_reading_is_refused_and_no_receipt_is_left(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path
    ) -> None:
        ktp("freeze", "--nik", "--why", "Case 12", stdin=CARD["nik"])
        with pytest.raises(CommandError, match="legal hold"):
            self.erase(ktp, tmp_path / "receipt.json")
        assert not (tmp_path / "receipt.json").exists()
        ktp("unfreeze", "--id", str(card.pk), "--why", "Closed")
        self.erase(ktp, tmp_path / "receipt.json")
        assert Tombstone.objects.filter(pk=card.pk).exists()

    def test_one_that_is_frozen_meanwhile_is_an_error_beside_the_receipt_of_the_others(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path, frozen_meanwhile: FrozenMeanwhile
    ) -> None:
        other = read_extraction()
        frozen_meanwhile(card)
        with pytest.raises(CommandError, match=rf"Not all of them are erased.*{card.pk}"):
            self.erase(ktp, tmp_path / "receipt.json")
        assert KtpExtraction.objects.filter(pk=card.pk).exists()
        assert json.loads((tmp_path / "receipt.json").read_text())["readings"] == [str(other.pk)]

    @pytest.mark.parametrize("reference", [CARD["nik"], "for Mr Specimento"])
    def test_a_reference_says_nothing_of_the_person(self, ktp: Ktp, card: KtpExtraction, reference: str) -> None:
        with pytest.raises(CommandError, match="must not say whom"):
            ktp("erase", "--nik", "--why", "request", "--yes", "--reference", reference, stdin=CARD["nik"])
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_a_receipt_that_was_changed_is_no_receipt(self, ktp: Ktp, card: KtpExtraction, tmp_path: Path) -> None:
        file = tmp_path / "receipt.json"
        self.erase(ktp, file)
        receipt = json.loads(file.read_text())
        for change in ({"readings": [str(uuid.uuid4())]}, {"signature": "x"}, {"by": "user:somebody"}):
            file.write_text(json.dumps(receipt | change))
            with pytest.raises(CommandError, match="The signature does not match"):
                ktp("verify", str(file))
        for text in ("", "[]", "{}", '{"readings": 5}', "[" * 100_000):
            file.write_text(text)
            with pytest.raises(CommandError, match="no receipt"):
                ktp("verify", str(file))

    def test_a_reading_that_comes_back_from_a_backup_is_told(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path
    ) -> None:
        file = tmp_path / "receipt.json"
        self.erase(ktp, file)
        KtpExtraction.objects.create(pk=card.pk, model="tiny")
        assert receipts.verify(json.loads(file.read_text())) == [f"Reading {card.pk} still exists."]
        Tombstone.objects.all().delete()
        with pytest.raises(CommandError, match="2 things"):
            ktp("verify", str(file))


class TestAfterABackup:
    def test_what_was_erased_since_goes_again_and_its_receipt_is_right(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path
    ) -> None:
        receipt, stones = tmp_path / "receipt.json", tmp_path / "tombstones.jsonl"
        TestErase().erase(ktp, receipt)
        stones.write_text(ktp("tombstones", "--since", "2020-01-01"))
        assert CARD["nik"] not in stones.read_text()
        # The backup has the reading, and no tombstone.
        Tombstone.objects.all().delete()
        KtpExtraction.objects.create(pk=card.pk, model="tiny")

        assert "1 readings had come back" in ktp("bury", str(stones))

        assert not KtpExtraction.objects.filter(pk=card.pk).exists()
        assert "genuine" in ktp("verify", str(receipt))
        assert "0 readings had come back" in ktp("bury", str(stones))

    def test_one_that_is_frozen_while_they_go_again_is_an_error(
        self, ktp: Ktp, card: KtpExtraction, tmp_path: Path, frozen_meanwhile: FrozenMeanwhile
    ) -> None:
        pks = [card.pk, read_extraction().pk]
        erase(pks, why=Why.REQUEST, by=Actor.of_command())
        stones = tmp_path / "tombstones.jsonl"
        stones.write_text(ktp("tombstones"))
        kept, _ = (KtpExtraction.objects.create(pk=pk, model="tiny") for pk in pks)
        frozen_meanwhile(kept)
        with pytest.raises(CommandError, match=f"legal hold.*{kept.pk}"):
            ktp("bury", str(stones))
        assert KtpExtraction.objects.filter(pk__in=pks).get().pk == kept.pk

    @pytest.mark.parametrize("line", ["{}", "[]", "x", '{"reading": "1"}'])
    def test_a_line_that_is_no_tombstone_is_refused(self, ktp: Ktp, tmp_path: Path, line: str) -> None:
        file = tmp_path / "tombstones.jsonl"
        file.write_text(line)
        with pytest.raises(CommandError, match="no tombstone"):
            ktp("bury", str(file))


class TestPurge:
    def test_a_dry_run_counts(self, ktp: Ktp, card: KtpExtraction) -> None:
        aged(card, 400)
        printed = ktp("purge", "--dry-run")
        assert "retention: 1 would go" in printed
        assert KtpExtraction.objects.filter(pk=card.pk).exists()

    def test_it_purges_and_counts(self, ktp: Ktp, card: KtpExtraction) -> None:
        aged(card, 400)
        assert "retention: 1 erased" in ktp("purge")
        assert retention.purge() == {}
        assert "Nothing is due." in ktp("purge")
        assert AuditEntry.objects.get(action="purged").actor_kind == "command"


def test_nothing_held_is_said(ktp: Ktp, card: KtpExtraction, tmp_path: Path) -> None:
    assert "Nothing is held." in ktp("find", "--nik", stdin="3171995505900002")
    for args in (("export", "--output", str(tmp_path / "x")), ("freeze", "--why", "x"), ("erase", "--why", "request")):
        with pytest.raises(CommandError, match="Nothing is held"):
            ktp(*args, "--nik", stdin="3171995505900002")
