"""What was read before there was a queue: it waits in it, and has a history as far as its row can tell."""

from __future__ import annotations

import importlib

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import RunPython
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import QuerySet
from django.utils import timezone

from ocr.models import KtpChange, KtpExtraction
from ocr.reading.problems import Problem
from ocr.reading_sessions import KtpSession
from sessions_app.encryption import rotation
from sessions_app.encryption.rotation import Derived
from tests.ktp_card import CARD

BEFORE = [("ocr", "0001_initial")]

#: those that an interruption can leave half done, in the order in which they run
NOT_ATOMIC = (
    "0003_old_readings",
    "0005_lookups",
    "0011_callers",
    "0010_retention_of_old_readings",
    "0006_encrypted_columns",
    "0019_index_of_the_admins_log",
    "0020_cascades_in_the_database",
    "0022_groups_are_deleted_by_older_releases",
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def old_release():
    """The tables and models of the release before."""
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    yield executor.loader.project_state(BEFORE).apps.get_model("ocr", "KtpExtraction").objects
    to_the_newest()


def to_the_newest():
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def migration(name):
    return importlib.import_module(f"ocr.migrations.{name}")


def read_before(readings, count):
    """So many readings of the release before, with their sessions."""
    sessions = readings.model._meta.get_field("session").related_model.objects
    return [
        readings.create(
            state="read",
            completed_at=timezone.now(),
            nik=CARD["nik"],
            nama=CARD["nama"],
            session=sessions.create(request={"messages": []}, model="tiny", next_index=1, origin="ocr"),
        ).pk
        for _ in range(count)
    ]


def test_rows_are_brought_over_in_batches_by_migrations_that_can_be_run_again(old_release, monkeypatch):
    for name in ("0003_old_readings", "0005_lookups", "0010_retention_of_old_readings", "0011_callers"):
        monkeypatch.setattr(migration(name), "BATCH", 2)
    # A later release derives a column that the tables do not have yet.
    later = Derived(("derived_later",), ("nik",), lambda values: {"derived_later": ""})
    monkeypatch.setitem(rotation._derived, "ocr.KtpExtraction", later)
    pks = read_before(old_release, 5)

    for name in NOT_ATOMIC:
        MigrationExecutor(connection).migrate([("ocr", name)])
        # Interrupted after its last step, and run again.
        MigrationRecorder(connection).record_unapplied("ocr", name)
        MigrationExecutor(connection).migrate([("ocr", name)])
    to_the_newest()

    assert {link.extraction_id for link in KtpSession.objects.all()} == set(pks)
    assert KtpExtraction.objects.with_nik(CARD["nik"]).count() == 5
    assert KtpChange.objects.filter(kind="read").count() == 5
    assert KtpExtraction.objects.waiting_for_review().count() == 5


def test_no_other_can_be_left_half_done():
    found = MigrationExecutor(connection).loader.disk_migrations.items()
    assert {name for (app, name), step in found if app == "ocr" and not step.atomic} == set(NOT_ATOMIC)


def test_a_reading_that_is_deleted_meanwhile_breaks_nothing(old_release, monkeypatch):
    """Between the look at the reading and the row that refers to it. Its deletion waits for that row."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    pks = read_before(old_release, 2)
    bulk_create = QuerySet.bulk_create
    waited = set()

    def deleted_in_between(rows, made, **options):
        if not made:
            return []  # the last batch is empty, and locks nothing
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SET lock_timeout = 200")
            with pytest.raises(OperationalError):
                cursor.execute("DELETE FROM ocr_ktpextraction WHERE id = %s", [pks[0]])
        other.close()
        waited.add(rows.model._meta.model_name)
        return bulk_create(rows, made, **options)

    for name in ("0003_old_readings", "0010_retention_of_old_readings"):
        run = next(step for step in migration(name).Migration.operations if isinstance(step, RunPython))

        def watched(apps, editor, code=run.code):
            with monkeypatch.context() as patch:
                patch.setattr(QuerySet, "bulk_create", deleted_in_between)
                code(apps, editor)

        monkeypatch.setattr(run, "code", watched)
    to_the_newest()

    assert waited == {"ktpchange", "ktpsession"}
    assert KtpSession.objects.count() == 2


def test_old_readings_wait_for_review_and_have_a_history(old_release):
    now = timezone.now()
    flag = Problem("nama", "name_has_digits").as_dict()
    read = {"state": "read", "completed_at": now, "nama": "S4TU", "problems": [flag], "flagged": True}
    reviewer = User.objects.create_user("reviewer")
    decided = {"review": "approved", "reviewed_at": now, "reviewed_by_id": reviewer.pk}
    pks = {
        "waiting": old_release.create(**read).pk,
        "approved": old_release.create(**read, **decided).pk,
        "empty": old_release.create(state="read", completed_at=now).pk,
        "failed": old_release.create(state="failed", completed_at=now).pk,
        "reading": old_release.create().pk,
    }

    to_the_newest()

    assert [card.pk for card in KtpExtraction.objects.waiting_for_review()] == [pks["waiting"]]
    cards = {name: KtpExtraction.objects.get(pk=pk) for name, pk in pks.items()}
    assert cards["waiting"].problems_read == [flag]
    assert [flag.code for flag in cards["waiting"].open_flags] == ["name_has_digits"]
    assert (cards["waiting"].flagged, cards["approved"].flagged) == (True, False)
    history = {name: list(card.history.values_list("kind", "actor_name")) for name, card in cards.items()}
    assert history == {
        "waiting": [("read", "")],
        "approved": [("read", ""), ("approved", "reviewer")],
        "empty": [("read", "")],
        "failed": [("failed", "")],
        "reading": [],
    }
    assert cards["approved"].history.get(kind="approved").at == now
    # And it is reviewed as any other.
    card = cards["waiting"]
    card.confirm(reviewer, "nama", None, card.version)
    card.approve(reviewer, card.version)
