"""``rotate_keys`` is killed in the middle, beside processes that read and write, and started again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, models
from django.db.models.functions import Cast

from ocr.models import KtpExtraction
from sessions_app.encryption.keyring import new_item
from tests.db.ktp_cards import CARD_JSON, read_extraction
from tests.ktp_card import CARD
from tests.live.stack import ROOT
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = new_item("old"), new_item("new")
CARDS = 70


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No worker is told."""
    monkeypatch.setattr("sessions_app.store.queue.send", lambda session_id: None)
    monkeypatch.setattr("sessions_app.wakeups.publish", lambda wakeups: None)


def environment() -> dict[str, str]:
    """Of a process that has both keys, on the database of this test."""
    database = connection.settings_dict
    here = {"ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_KEYS": f"{NEW},{OLD}"}
    if connection.vendor == "sqlite":
        return {**os.environ, **here, "SESSIONS_DB_PATH": str(database["NAME"])}
    user = f"{database['USER']}:{database['PASSWORD']}@"
    url = f"postgres://{user}{database['HOST']}:{database['PORT'] or 5432}/{database['NAME']}"
    return {**os.environ, **here, "DATABASE_URL": url}


def rotation(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "rotate_keys", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)


def rotated() -> int:
    """How many readings have their NIK under the new key."""
    stored = KtpExtraction.objects.alias(stored=Cast("nik", models.TextField()))
    return stored.filter(stored__startswith="sealed:new:").count()


class Beside(threading.Thread):
    """Reads all cards and corrects one, again and again, as web processes do."""

    def __init__(self, clerk: User) -> None:
        super().__init__()
        self.clerk = clerk
        self.wrong: list[Any] = []
        self.rounds = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            card = KtpExtraction.objects.order_by("pk").last()
            assert card is not None
            while not self.stopping.is_set() and not self.wrong:
                card.correct(self.clerk, {"agama": f"AGAMA {self.rounds}"}, card.version)
                self.rounds += 1
                for seen in KtpExtraction.objects.select_related("image"):
                    is_right = seen.nik == CARD["nik"] and seen.raw_answer == CARD_JSON and bytes(seen.image.data)
                    self.wrong += [] if is_right else [seen.pk]
                if KtpExtraction.objects.with_nik(CARD["nik"]).count() != CARDS:
                    self.wrong.append("search")
        except Exception as exc:
            self.wrong.append(exc)
        finally:
            connection.close()


@pytest.fixture
def beside(monkeypatch) -> Iterator[Beside]:
    monkeypatch.setattr(settings, "DATA_KEYS", [OLD])
    clerk = User.objects.create_user("clerk")
    for _ in range(CARDS):
        read_extraction(clerk)
    # As after the restart with the new key in front.
    monkeypatch.setattr(settings, "DATA_KEYS", [NEW, OLD])
    thread = Beside(clerk)
    thread.start()
    yield thread
    thread.stopping.set()
    thread.join(60)


def test_it_is_killed_in_the_middle_and_started_again_and_nothing_is_unreadable(beside, monkeypatch):
    first = rotation("--pause", "1")
    try:
        wait_for(lambda: rotated() > 2, seconds=120)
    finally:
        first.kill()
        first.communicate(timeout=30)
    assert rotated() < CARDS

    second = rotation()
    told, _ = second.communicate(timeout=240)
    beside.stopping.set()
    beside.join(60)

    assert (second.returncode, beside.wrong) == (0, [])
    assert "remove: old" in told
    assert rotated() == CARDS
    assert beside.rounds > 0
    monkeypatch.setattr(settings, "DATA_KEYS", [NEW])
    corrected = KtpExtraction.objects.order_by("pk").last()
    assert corrected is not None and corrected.agama == f"AGAMA {beside.rounds - 1}"
    checked = rotation("--check")
    checked.communicate(timeout=120)
    assert checked.returncode == 0
