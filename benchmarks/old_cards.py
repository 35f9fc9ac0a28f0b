"""Many readings whose time is over: one is made as the server makes it, and the database copies it.

It runs as a process of its own, with the settings of the server that it fills:

    python -m benchmarks.old_cards COUNT
"""

from __future__ import annotations

import datetime
import os
import sys

import django

django.setup()

from django.db import connection, models, transaction  # noqa: E402  (models need the settings)
from django.utils import timezone  # noqa: E402

from ocr.extraction import announce_session  # noqa: E402
from ocr.models import KtpChange, KtpExtraction, KtpImage, KtpSession  # noqa: E402
from sessions_app.models import ChatSession, Chunk, SessionEvent, SessionMedia  # noqa: E402
from sessions_app.store import appending, opening, transitions  # noqa: E402

#: of a picture: a real one has a hundred times as many, which would fill the disk of a small machine
PICTURE_BYTES = 2_000
AGE = datetime.timedelta(days=400)
READING = "md5('reading ' || copy)::uuid"
SESSION = "'old-' || copy"
#: the columns that differ between the copies, by model
OWN: dict[type[models.Model], dict[str, str]] = {
    ChatSession: {"id": SESSION},
    KtpExtraction: {"id": READING, "session_id": SESSION},
    KtpSession: {"session_id": SESSION, "extraction_id": READING},
    KtpImage: {"extraction_id": READING},
    KtpChange: {"extraction_id": READING},
    Chunk: {"session_id": SESSION},
    SessionMedia: {"session_id": SESSION},
    SessionEvent: {"session_id": SESSION},
}


@transaction.atomic
def make_one() -> KtpExtraction:
    """A specimen that was read, a year ago."""
    card = KtpExtraction.objects.create(model="none")
    picture = os.urandom(PICTURE_BYTES)
    KtpImage.objects.create(extraction=card, content_type="image/png", width=1, height=1, data=picture)
    session, _ = opening.open_session(
        session_id=announce_session(card.pk),
        request={},
        request_digest="",
        model="none",
        origin="ocr",
        media=[opening.NewMedia("image", "image/png", "0" * 64, picture)],
        needs_listener=False,
    )
    KtpExtraction.objects.filter(pk=card.pk).update(session=session)
    transitions.claim(session.pk, worker="none")
    pieces = [
        appending.Piece({"type": "text", "text": text}, [7])
        for text in ('{"nik": "3171990101900001", ', '"nama": "SPECIMENTO"', "}")
    ]
    appending.append([appending.Append(session.pk, 1, 1, pieces, appending.Closing(completion_tokens=3))])
    # And not ``complete_extraction``, which ends the session: the purge has chunks and media to remove too.
    card.refresh_from_db()
    card.mark_read(values={"nik": "3171990101900001", "nama": "SPECIMENTO"}, raw_answer="{}", found=[])
    KtpExtraction.objects.filter(pk=card.pk).update(created_at=timezone.now() - AGE)
    return card


def copy(card: KtpExtraction, count: int) -> None:
    """Insert copies of every row that belongs to it."""
    session_id = KtpSession.objects.get(extraction=card).pk
    with connection.cursor() as cursor:
        for model, own in OWN.items():
            is_of_session = model in (ChatSession, Chunk, SessionMedia, SessionEvent)
            key = "id" if model in (ChatSession, KtpExtraction) else "session_id" if is_of_session else "extraction_id"
            fields = [
                field.column or ""
                for field in model._meta.concrete_fields
                if not (field.primary_key and isinstance(field, models.AutoField))
            ]
            quoted = ", ".join(map(connection.ops.quote_name, fields))
            values = ", ".join(own.get(name, connection.ops.quote_name(name)) for name in fields)
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                f"INSERT INTO {table} ({quoted}) SELECT {values} FROM {table}, generate_series(1, %s) AS copy "  # noqa: S608
                f"WHERE {connection.ops.quote_name(key)} = %s",
                [count, session_id if is_of_session else card.pk],
            )
        cursor.execute("ANALYZE")


def main(count: str) -> None:
    copy(make_one(), int(count) - 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
