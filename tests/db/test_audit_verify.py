"""``manage.py audit verify`` says which line was removed, changed, inserted or moved, also to who knows the hashes."""

from __future__ import annotations

import io
import json
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ocr.audit.actors import Actor
from ocr.audit.chain import hash_of
from ocr.audit.models import Action, AuditEntry, AuditHead
from ocr.audit.recording import record
from ocr.audit.triggers import refuse_changes  # before tests do without it

pytestmark = pytest.mark.django_db

LINES = 6


@pytest.fixture(autouse=True)
def log():
    for _ in range(LINES):
        record(Action.VIEWED, actor=Actor.of_server(), card=uuid.uuid4(), facts={"where": "desk", "fields": ["nik"]})


def execute(statement: str, *values: str | int) -> None:
    """As somebody with access to the database, who has dropped the triggers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def verify(*args: str) -> str:
    out = io.StringIO()
    try:
        call_command("audit", "verify", *args, stdout=out, no_color=True)
    except CommandError:
        return f"{out.getvalue()}BROKEN"
    return out.getvalue()


def head() -> str:
    last = AuditEntry.objects.get(sequence=LINES)
    return f"{LINES}:{last.hash}"


def rechain(first: int) -> None:
    """Compute the hashes again from this line on, as an attacker who has read the code would."""
    previous = AuditEntry.objects.filter(sequence=first - 1).values_list("hash", flat=True).first() or ""
    digest = ""
    for entry in AuditEntry.objects.filter(sequence__gte=first).order_by("sequence"):
        entry.previous_hash = previous
        digest = hash_of(entry)
        execute(
            "UPDATE ocr_auditentry SET previous_hash = %s, hash = %s WHERE sequence = %s",
            previous,
            digest,
            entry.sequence,
        )
        previous = digest
    AuditHead.objects.update(hash=previous, sequence=AuditEntry.objects.count())


def test_a_whole_log_is_whole_and_says_its_head():
    refuse_changes(connection)
    assert verify() == f"6 lines. Head: {head()}\nThe audit log is whole.\n"


def test_an_empty_log_is_whole():
    execute("DELETE FROM ocr_auditentry")
    AuditHead.objects.all().delete()
    assert "0 lines. Head: 0:" in verify() and "is whole" in verify()


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DELETE FROM ocr_auditentry WHERE sequence = 3", "Line 3 is missing."),
        ("DELETE FROM ocr_auditentry WHERE sequence IN (2, 3)", "Lines 2 to 3 are missing."),
        ("DELETE FROM ocr_auditentry WHERE sequence = 1", "Line 1 is missing."),
        ("DELETE FROM ocr_auditentry WHERE sequence > 4", "Lines 5 to 6 are missing at the end."),
        ("UPDATE ocr_auditentry SET actor_name = 'nobody' WHERE sequence = 4", "Line 4 was changed."),
        ("UPDATE ocr_auditentry SET card = NULL WHERE sequence = 4", "Line 4 was changed."),
        ("UPDATE ocr_auditentry SET facts = '{}' WHERE sequence = 4", "Line 4 was changed."),
        ("UPDATE ocr_auditentry SET at = '2020-01-01 00:00:00+00:00' WHERE sequence = 6", "Line 6 was changed."),
        ("UPDATE ocr_auditentry SET seal = repeat('0', 64) WHERE sequence = 5", "Line 5 has a wrong seal"),
        ("UPDATE ocr_auditentry SET seal = '' WHERE sequence = 5", "Line 5 has no seal"),
    ],
)
def test_what_was_done_to_a_line_is_found(statement, finding):
    execute(statement.replace("repeat('0', 64)", "'" + "0" * 64 + "'"))
    said = verify()
    assert finding in said and said.endswith("BROKEN")


def test_lines_that_changed_places_are_found():
    execute("UPDATE ocr_auditentry SET sequence = 100 WHERE sequence = 2")
    execute("UPDATE ocr_auditentry SET sequence = 2 WHERE sequence = 3")
    execute("UPDATE ocr_auditentry SET sequence = 3 WHERE sequence = 100")
    said = verify()
    assert "Line 2 was changed." in said and "Line 3 was changed." in said


@pytest.mark.parametrize(("sequence", "finding"), [(0, "Line 0 was inserted"), (7, "Line 7 is not written by this")])
def test_an_inserted_line_is_found(sequence, finding):
    last = AuditEntry.objects.get(sequence=LINES)
    last.sequence, last.previous_hash = sequence, last.hash
    last.hash = hash_of(last)
    AuditEntry.objects.bulk_create([last])
    assert finding in verify()


def test_who_computes_all_hashes_again_still_has_no_seals():
    execute("UPDATE ocr_auditentry SET actor_name = 'nobody' WHERE sequence = 4")
    rechain(4)
    said = verify()
    assert "was changed" not in said
    assert "Line 4 has a wrong seal: it was not written by this server." in said


def test_a_line_that_is_removed_and_closed_over_has_wrong_seals():
    execute("DELETE FROM ocr_auditentry WHERE sequence = 3")
    for sequence in (4, 5, 6):
        execute("UPDATE ocr_auditentry SET sequence = %s WHERE sequence = %s", sequence - 1, sequence)
    rechain(3)
    said = verify()
    assert "is missing" not in said and "Line 3 has a wrong seal" in said


def test_an_end_that_was_cut_off_with_care_is_found_by_a_head_that_was_noted():
    noted = head()
    execute("DELETE FROM ocr_auditentry WHERE sequence > 4")
    fourth = AuditEntry.objects.get(sequence=4)
    AuditHead.objects.update(sequence=4, hash=fourth.hash)

    assert "is whole" in verify()
    assert "Lines 5 to 6 are missing since the head was noted." in verify("--head", noted)

    for _ in range(4):
        record(Action.VIEWED, actor=Actor.of_server())
    assert "Line 6 is another than when its head was noted." in verify("--head", noted)


def test_a_noted_head_stays_in_a_log_that_grows():
    noted = head()
    record(Action.VIEWED, actor=Actor.of_server())
    assert "is whole" in verify("--head", noted)


def test_a_dropped_key_leaves_the_lines_that_the_next_one_has_sealed_provable(settings):
    old = settings.DATA_KEYS
    settings.DATA_KEYS = ["next:9s8Hq3n2ZJb0fXwq1kq8Gm3T0dK2l7Vt5yQe6RzUoBc=", *old]
    record(Action.VIEWED, actor=Actor.of_server())
    settings.DATA_KEYS = settings.DATA_KEYS[:1]

    said = verify()
    assert "6 lines are sealed with keys that DATA_KEYS does not have." in said and "is whole" in said
    execute("UPDATE ocr_auditentry SET actor_name = 'nobody' WHERE sequence = 4")
    rechain(4)
    assert "Line 7 has a wrong seal" in verify()


def test_without_a_key_lines_are_written_and_the_log_says_that_they_have_no_seal(settings):
    execute("DELETE FROM ocr_auditentry")
    AuditHead.objects.all().delete()
    settings.DATA_KEYS = []
    record(Action.VIEWED, actor=Actor.of_server())
    said = verify()
    assert "1 lines have no seal: the server had no key." in said and "is whole" in said


def test_missing_triggers_are_told():
    assert "triggers that refuse changes are missing" in verify()


def test_a_head_that_is_none_is_refused():
    with pytest.raises(CommandError, match="SEQUENCE:HASH"):
        call_command("audit", "verify", "--head", "what")


def test_an_export_is_lines_of_json_and_itself_a_line():
    out = io.StringIO()
    call_command("audit", "export", stdout=out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["sequence"] for row in rows] == list(range(1, LINES + 1))
    assert rows[0]["facts"] == {"where": "desk", "fields": ["nik"]} and rows[-1]["hash"] == head().partition(":")[2]
    assert AuditEntry.objects.latest("sequence").action == "audit_exported"
    out.truncate(0)
    call_command("audit", "export", "--until", "2020-01-01T00:00", stdout=out)
    assert out.getvalue().strip("\0") == ""
