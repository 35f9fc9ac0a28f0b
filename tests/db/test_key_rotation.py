"""``rotate_keys``: everything comes under the first key, while others read and write; a lost key is said clearly."""

from __future__ import annotations

import io
import threading

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import close_old_connections, connection, models
from django.db.migrations.executor import MigrationExecutor

from ocr.audit.models import AuditEntry
from ocr.lookup import picture_lookup
from ocr.models import KtpChange, KtpExtraction, KtpImage
from ocr.rows import read_before
from sessions_app.answer import read_answer
from sessions_app.encryption import rotation, sealed
from sessions_app.encryption.keyring import DataKeyMissing, new_item
from sessions_app.models import ChatSession, Chunk
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, reading_extraction, specimen
from tests.ktp_card import CARD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "told")]

OLD, NEW = new_item("old"), new_item("new")


@pytest.fixture
def keys(monkeypatch):
    """Sets the keys of this process."""

    def put(*items: str) -> None:
        monkeypatch.setattr(settings, "DATA_KEYS", list(items))

    put(OLD)
    return put


def rotate(*arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    out = io.StringIO()
    try:
        call_command("rotate_keys", *arguments, stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def keys_in_use() -> set[str]:
    """The keys of every stored value."""
    return set().union(*map(keys_in_use_of, rotation.tables()))


def keys_in_use_of(model: type[models.Model]) -> set[str]:
    found: set[str] = set()
    for field in rotation.sealed_columns(model):
        plain = models.BinaryField() if isinstance(field, models.BinaryField) else models.TextField()
        values = model._base_manager.values_list(
            models.functions.Cast(models.F(field.attname), plain)
            if not isinstance(plain, models.BinaryField)
            else models.Func(models.F(field.attname), template="%(expressions)s", output_field=plain),
            flat=True,
        )
        for value in values:
            text = bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
            found |= {key for key in ("old", "new") if f"sealed:{key}:" in text or f'"sealed": "{key}:' in text}
    return found


def test_a_table_that_grows_as_fast_as_it_is_rotated_has_an_end(keys, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH_ROWS", 2)
    clerk = User.objects.create_user("clerk")
    card = read_extraction(clerk)
    for number in range(3):
        card.correct(clerk, {"agama": f"AGAMA {number}"}, card.version)
    keys(NEW, OLD)
    there = KtpChange.objects.count()

    for progress in rotation.rotate(KtpChange):
        assert progress.rows <= there
        for number in range(2):
            card.correct(clerk, {"agama": f"AGAMA {progress.rows} {number}"}, card.version)

    assert progress.rows == there
    assert keys_in_use_of(KtpChange) == {"new"}


def test_everything_comes_under_the_first_key_and_stays_readable(keys):
    clerk = User.objects.create_user("clerk")
    card = read_extraction(clerk, text=CARD_JSON, uncertain="SPECIMENTO")
    card.correct(clerk, {"agama": "ISLAM"}, card.version)
    before = {"values": card.values, "problems": card.problems, "raw": card.raw_answer}
    picture = bytes(card.image.data)

    keys(NEW, OLD)
    assert rotate("--check")[0] == 1
    status, told = rotate()
    assert (status, keys_in_use()) == (0, {"new"})
    assert "remove: old" in told
    assert rotate("--check")[0] == 0
    [line] = AuditEntry.objects.filter(action="keys_rotated")
    assert (line.actor_kind, line.facts["first"], line.facts["rows"] >= 3) == ("command", "new", True)

    keys(NEW)
    card = KtpExtraction.objects.with_nik(CARD["nik"]).get()
    assert {"values": card.values, "problems": card.problems, "raw": card.raw_answer} == before
    assert KtpExtraction.objects.with_name(CARD["nama"]).get() == card
    assert bytes(card.image.data) == picture
    assert list(card.history.filter(kind="corrected").values_list("old", "new")) == [("HINDU", "ISLAM")]


def test_the_same_picture_is_recognised_under_another_key(keys):
    clerk = User.objects.create_user("clerk")

    def read() -> KtpExtraction:
        card = read_extraction(clerk)
        KtpImage.objects.filter(pk=card.pk).update(sha256=picture_lookup(bytes(card.image.data)))
        return KtpExtraction.objects.get(pk=card.pk)

    first = read()
    keys(NEW, OLD)
    second = read()
    assert first.image.sha256 != second.image.sha256

    assert read_before(second.image.lookups(), clerk, besides=second) == first
    rotate()
    keys(NEW)
    second = KtpExtraction.objects.get(pk=second.pk)
    assert read_before(second.image.lookups(), clerk, besides=second) == first


def test_a_second_run_writes_nothing(keys):
    read_extraction()
    keys(NEW, OLD)
    rotate()

    assert all(progress.written == 0 for model in rotation.tables() for progress in rotation.rotate(model))


def test_chats_are_left_plain(keys):
    ChatSession.objects.create(request={"messages": []}, model="tiny", next_index=1)

    rotate()

    assert "sealed" not in str(ChatSession.objects.values_list(models.functions.Cast("request", models.TextField())))


def test_a_correction_at_the_same_moment_is_not_lost(keys, monkeypatch):
    clerk = User.objects.create_user("clerk")
    card = read_extraction(clerk)
    keys(NEW, OLD)
    write = rotation._write

    def corrected_in_between(model, row, changes, derived):
        if model is KtpExtraction and KtpExtraction.objects.get().agama != "ISLAM":
            card.correct(clerk, {"agama": "ISLAM"}, card.version)
        return write(model, row, changes, derived)

    monkeypatch.setattr(rotation, "_write", corrected_in_between)
    rotate()

    assert KtpExtraction.objects.get().agama == "ISLAM"
    assert keys_in_use() == {"new"}


def test_a_nik_that_is_corrected_while_only_its_digest_is_filled_in_is_found(keys, monkeypatch):
    clerk = User.objects.create_user("clerk")
    card = read_extraction(clerk)
    KtpExtraction.objects.update(nik_lookup="")  # as a process of the last release left it
    corrected = "3171015708900002"
    write = rotation._write

    def corrected_in_between(model, row, changes, derived):
        if model is KtpExtraction and KtpExtraction.objects.get().nik != corrected:
            card.correct(clerk, {"nik": corrected}, card.version)
        return write(model, row, changes, derived)

    monkeypatch.setattr(rotation, "_write", corrected_in_between)
    rotate()

    assert KtpExtraction.objects.with_nik(corrected).get() == card
    assert not KtpExtraction.objects.with_nik(CARD["nik"]).exists()


def test_a_value_that_an_old_process_has_emptied_is_found_no_more(keys):
    card = read_extraction()
    KtpExtraction.objects.update(nik=models.Value("", models.TextField()))
    assert KtpExtraction.objects.with_nik(CARD["nik"]).exists()

    rotate()

    assert not KtpExtraction.objects.with_nik(CARD["nik"]).exists()
    assert KtpExtraction.objects.with_name(CARD["nama"]).get() == card


def test_a_picture_that_is_turned_at_the_same_moment_is_not_lost(keys, monkeypatch):
    card = read_extraction()
    keys(NEW, OLD)
    turned = specimen(size=(540, 856))
    write = rotation._write

    def turned_in_between(model, row, changes, derived):
        if model is KtpImage and bytes(KtpImage.objects.get().data) != turned:
            KtpImage.objects.update(data=turned)
        return write(model, row, changes, derived)

    monkeypatch.setattr(rotation, "_write", turned_in_between)
    rotate()

    assert bytes(KtpImage.objects.get(pk=card.pk).data) == turned


def test_a_row_that_is_deleted_at_the_same_moment_is_left_alone(keys, monkeypatch):
    read_extraction()
    keys(NEW, OLD)
    write = rotation._write

    def deleted_in_between(model, row, changes, derived):
        if model is KtpImage:
            KtpImage.objects.all().delete()
        return write(model, row, changes, derived)

    monkeypatch.setattr(rotation, "_write", deleted_in_between)

    assert rotate()[0] == 0
    assert keys_in_use() == {"new"}


def test_readers_and_writers_notice_nothing(keys):
    clerk = User.objects.create_user("clerk")
    cards = [read_extraction(clerk) for _ in range(8)]
    keys(NEW, OLD)
    wrong: list[str] = []
    rounds = [0]
    done = threading.Event()

    def read_and_correct() -> None:
        card = cards[0]
        while not done.is_set() or rounds[0] < 2:
            rounds[0] += 1
            card.correct(clerk, {"agama": f"AGAMA {rounds[0]}"}, card.version)
            for seen in KtpExtraction.objects.select_related("image"):
                if seen.nik != CARD["nik"] or not seen.image.data or seen.raw_answer != CARD_JSON:
                    wrong.append(str(seen))
            if len(KtpExtraction.objects.with_nik(CARD["nik"])) != len(cards):
                wrong.append("search")
        close_old_connections()
        connection.close()

    reader = threading.Thread(target=read_and_correct)
    reader.start()
    try:
        status, _ = rotate()
    finally:
        done.set()
        reader.join(60)

    assert (status, wrong) == (0, [])
    assert KtpExtraction.objects.get(pk=cards[0].pk).agama == f"AGAMA {rounds[0]}"
    assert keys_in_use() == {"new"}


def test_a_lost_key_is_named_and_nothing_is_overwritten(keys):
    read_extraction()
    keys(NEW)

    status, told = rotate()

    assert status == 1
    assert "the key old is not in DATA_KEYS" in told
    keys(OLD)
    assert KtpExtraction.objects.get().values == CARD


def test_a_value_without_its_key_is_never_written_back(keys):
    clerk = User.objects.create_user("clerk")
    read_extraction(clerk)
    keys(NEW)
    card = KtpExtraction.objects.get()

    assert card.nik == ""
    assert isinstance(card.nik, sealed.Unreadable)
    for change in (card.check_readable, card.save):
        with pytest.raises(DataKeyMissing):
            change()


def test_plain_rows_of_the_last_release_are_encrypted_by_the_migration_and_by_a_rotation(keys):
    before = [("ocr", "0005_lookups")]
    executor = MigrationExecutor(connection)
    executor.migrate(before)
    apps = executor.loader.project_state(before).apps
    old = apps.get_model("ocr", "KtpExtraction").objects.create(
        nik=CARD["nik"], nama=CARD["nama"], raw_answer=CARD_JSON, fields_read=CARD, file_name="budi.jpg"
    )
    apps.get_model("ocr", "KtpImage").objects.create(
        extraction=old, content_type="image/jpeg", sha256="0" * 64, width=1, height=1, data=specimen()
    )
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())

    assert keys_in_use() == {"old"}
    card = KtpExtraction.objects.get()
    assert (card.nik, card.raw_answer, card.fields_read, card.file_name) == (CARD["nik"], CARD_JSON, CARD, "budi.jpg")
    assert bytes(card.image.data) == specimen()
    assert card.image.sha256 != "0" * 64

    # What a process of the last release writes after the migration.
    plain = models.Value("KATOLIK", models.TextField())
    KtpExtraction.objects.update(agama=plain)
    assert KtpExtraction.objects.get().agama == "KATOLIK"
    assert rotate("--check")[0] == 1
    rotate()
    assert KtpExtraction.objects.get().agama == "KATOLIK"
    assert rotate("--check")[0] == 0


def test_encrypted_columns_refuse_to_be_searched(keys):
    for model, column in ((KtpExtraction, "nik"), (KtpChange, "new")):
        with pytest.raises(FieldError, match="encrypted"):
            model._default_manager.filter(**{column: "x"}).exists()


def test_what_a_session_has_said_so_far_is_read_under_the_new_key(keys):
    session_id = reading_extraction().session_id or ""
    answer(session_id, CARD_JSON)
    keys(NEW, OLD)
    rotate()
    keys(NEW)

    assert Chunk.objects.token_ids_of(session_id) == [7, 7]
    assert read_answer(session_id).text == CARD_JSON


def test_a_value_that_was_moved_to_another_row_is_counted_by_its_digest(keys):
    first, second = read_extraction(), read_extraction()
    second.correct(User.objects.create_user("reviewer"), {"nik": "3171990101900777"}, second.version)
    assert rotate("--check")[0] == 0
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ocr_ktpextraction SET nik = (SELECT nik FROM ocr_ktpextraction WHERE id = %s) WHERE id = %s",
            [KtpExtraction._meta.pk.get_db_prep_value(pk, connection) for pk in (second.pk, first.pk)],
        )
    first.refresh_from_db()
    assert first.nik == second.nik  # it opens there
    status, said = rotate("--check")
    assert status == 1 and "1 rows are not encrypted." in said
