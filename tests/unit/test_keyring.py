"""The keys of stored data: the first encrypts, all decrypt, and each value opens only in its own column."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from django.conf import settings
from django.core.checks import Error
from django.core.management import call_command

from ocr.lookup import name_lookup, nik_lookup, nik_lookups, normalised_name
from sessions_app.checks import check_data_keys
from sessions_app.encryption import keyring
from sessions_app.encryption.keyring import Damaged, DataKeyMissing

OLD, NEW = keyring.new_item("old"), keyring.new_item("new")
PLACE = "ocr_ktpextraction.nik"
NIK = "3171990101900001"


def test_a_value_names_the_first_key_and_opens_with_any():
    key_id, sealed = keyring.parse((OLD,)).encrypt(b"text", PLACE)

    assert key_id == "old"
    assert b"text" not in sealed
    assert keyring.parse((NEW, OLD)).decrypt(key_id, sealed, PLACE) == b"text"
    assert keyring.parse((NEW, OLD)).encrypt(b"text", PLACE)[0] == "new"


def test_two_equal_values_look_different():
    ring = keyring.parse((OLD,))

    assert ring.encrypt(b"text", PLACE) != ring.encrypt(b"text", PLACE)


def test_a_value_does_not_open_elsewhere_changed_or_cut():
    ring = keyring.parse((OLD,))
    key_id, sealed = ring.encrypt(b"text", PLACE)

    for spoiled, place in [(sealed, "ocr_ktpextraction.nama"), (sealed[:-1] + b"x", PLACE), (sealed[:20], PLACE)]:
        with pytest.raises(Damaged):
            ring.decrypt(key_id, spoiled, place)


def test_a_lost_key_is_named():
    key_id, sealed = keyring.parse((OLD,)).encrypt(b"text", PLACE)

    with pytest.raises(DataKeyMissing, match="old") as refused:
        keyring.parse((NEW,)).decrypt(key_id, sealed, PLACE)

    assert refused.value.status == 503


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (["nothing"], "does not begin with an id"),
        (["a b:AAAA"], "does not begin with an id"),
        (["k1:%%%%%%%%"], "is not base64"),
        (["k1:" + base64.b64encode(b"short").decode()], "has 5 bytes"),
        (["k1:" + base64.b64encode(b"a" * 32).decode()], "is not random"),
        ([OLD, "old:" + NEW.partition(":")[2]], "the same id"),
    ],
)
def test_a_wrong_key_is_an_error_at_start_that_does_not_repeat_it(items, reason, monkeypatch):
    monkeypatch.setattr(settings, "DATA_KEYS", items)

    [found] = check_data_keys(None)

    assert isinstance(found, Error)
    assert reason in found.msg
    assert (items[-1].partition(":")[2] or items[-1]) not in f"{found.msg} {found.hint}"


def test_no_key_is_no_error_at_start(monkeypatch, tmp_path):
    without_keys(monkeypatch, tmp_path / "sessions.db")

    assert check_data_keys(None) == []
    assert not keyring.has_keys()
    with pytest.raises(DataKeyMissing):
        keyring.ring()


def test_a_server_with_an_sqlite_file_makes_a_key_beside_it_once(monkeypatch, tmp_path):
    without_keys(monkeypatch, tmp_path / "sessions.db")

    keyring.make_key_file()
    made = (tmp_path / "sessions.db.keys").read_text()
    keyring.make_key_file()

    assert (tmp_path / "sessions.db.keys").read_text() == made
    assert stat.S_IMODE((tmp_path / "sessions.db.keys").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.db.keys"]
    assert keyring.ring().ids == [made.partition(":")[0]]


def test_a_server_with_postgresql_makes_none(monkeypatch):
    monkeypatch.setattr(settings, "DATA_KEYS", [])
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "django.db.backends.postgresql", "NAME": "sambung"})

    keyring.make_key_file()

    assert keyring.key_file() is None
    assert not keyring.has_keys()


def test_the_command_prints_a_key_that_can_be_used(capsys):
    call_command("make_data_key", "--id", "k7")

    assert keyring.parse((capsys.readouterr().out.strip(),)).ids == ["k7"]


def test_a_nik_is_found_however_it_is_grouped_and_only_with_the_key(monkeypatch):
    monkeypatch.setattr(settings, "DATA_KEYS", [OLD])
    stored = nik_lookup(NIK)

    assert nik_lookup("317199 010190 0001") == stored != nik_lookup("3171990101900002")
    assert NIK not in stored
    assert nik_lookup("") == nik_lookup("-") == ""
    monkeypatch.setattr(settings, "DATA_KEYS", [NEW])
    assert nik_lookup(NIK) != stored


def test_a_search_accepts_the_lookups_of_every_key(monkeypatch):
    monkeypatch.setattr(settings, "DATA_KEYS", [OLD])
    stored = nik_lookup(NIK)
    monkeypatch.setattr(settings, "DATA_KEYS", [NEW, OLD])

    assert nik_lookups(NIK) == [nik_lookup(NIK), stored]


def test_a_name_is_found_whatever_its_case_accents_and_punctuation():
    assert normalised_name(" Ir.  Siti Nur'aini,  S.H. ") == "IR SITI NUR AINI S H"
    assert name_lookup("José  Budi") == name_lookup("JOSE BUDI") != name_lookup("JOSE BUDIMAN")
    assert name_lookup("BUDI") != nik_lookup("1")


def without_keys(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    monkeypatch.setattr(settings, "DATA_KEYS", [])
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database)})
