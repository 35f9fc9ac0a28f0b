"""What was read before there was a queue: it waits in it, and has a history as far as its row can tell."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from ocr.models import KtpExtraction
from ocr.reading.problems import Problem

BEFORE = [("ocr", "0001_initial")]

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
