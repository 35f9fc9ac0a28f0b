"""The life of one extraction: an upload starts a session, and the session's answer becomes a reading.

No process has to wait for the end. The row is completed by whoever looks first after the end: an API call, a
page of the clerk or of the desk, or the sweep if no web process is left. The others find it completed.

The transaction that stores the reading removes the session's text. Listeners of the session are notified that the text
is gone, and find the reading stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from inference import generations
from inference.engine.types import Sampling
from inference.stored_request import StoredRequest
from ocr import card_image, metrics
from ocr.audit.recording import Action, Actor, record
from ocr.lookup import picture_lookup
from ocr.models import FILE_NAME_MAX_CHARS, KtpExtraction, KtpImage, KtpSubmittedImage
from ocr.reading import confidence, form, prompt
from ocr.reading.judging import judge_answer
from ocr.reading.parsing import Reading, clean, storable
from ocr.reading_sessions import KtpSession
from ocr.refusals import Erased, NotOpen
from ocr.submissions import INTERRUPTED_SECONDS
from ocr.versioned import recorded_last
from sessions_app.answer import UNREADABLE_CHUNK_ERRORS, Answer, read_answer
from sessions_app.callers import caller_of_user
from sessions_app.db import in_db
from sessions_app.encryption import keyring
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession, ChatSessionQuerySet, new_session_id
from sessions_app.store import sweeper
from sessions_app.store.erasing import erase_sessions
from sessions_app.store.transitions import request_cancel

log = logging.getLogger(__name__)

#: number of likeliest tokens stored per token of a reading: the token itself and two alternatives
LIKELIEST = 3

#: maximum extractions completed in one sweep, so that a sweep stays short
COMPLETE_BATCH = 100


async def start_extraction(
    *,
    image: card_image.CardImage,
    file_name: str,
    caller: str,
    user: User | None = None,
    request_id: str = "",
    and_store: Callable[[KtpExtraction], None] | None = None,
) -> KtpExtraction:
    """Store the card and send it to the model; the reading is filled in later.

    ``caller`` has the form of ``sessions_app.callers``. ``and_store`` is called in the transaction that stores the
    card. Raises OverShare and Unavailable if no session can be queued, and DataKeyMissing; nothing is stored then.
    """
    keyring.ring()
    # A disconnect must not stop this, or a card could be stored without its session.
    return await asyncio.shield(_store_and_send(image, file_name, caller, user, request_id, and_store))


def store_in_sandbox(
    image: card_image.CardImage, file_name: str, caller: str, and_store: Callable[[KtpExtraction], None]
) -> KtpExtraction:
    """Store a picture of the sandbox. It is not sent to a model."""
    with transaction.atomic():
        extraction = _store(image, file_name, caller, None, and_store)
        KtpExtraction.objects.filter(pk=extraction.pk).update(sandbox=True, model="sandbox")
        record(Action.API_UPLOADED, actor=Actor.of_caller(caller), card=extraction)
    extraction.refresh_from_db()
    return extraction


async def _store_and_send(
    image: card_image.CardImage,
    file_name: str,
    caller: str,
    user: User | None,
    request_id: str,
    and_store: Callable[[KtpExtraction], None] | None,
) -> KtpExtraction:
    extraction = await in_db(_store, image, file_name, caller, user, and_store)
    try:
        session_id = await in_db(announce_session, extraction.pk)
        session = await _start_session(image, caller, request_id, session_id)
    except Exception:
        await in_db(_remove_unsent, extraction)
        raise
    try:
        await in_db(_begin, extraction, session, Actor.of_user(user) if user else Actor.of_caller(caller))
    except Erased:
        # The reading was erased while the session was being opened, so the session now holds the card again.
        await in_db(erase_sessions, [session.pk])
        raise
    return extraction


@transaction.atomic
def _remove_unsent(extraction: KtpExtraction) -> None:
    """Remove a card that could not be sent. Its place in the caller's request stays and will hold the error."""
    KtpSubmittedImage.objects.filter(extraction=extraction).update(extraction=None)
    extraction.delete()


async def read_again(
    extraction: KtpExtraction, user: User, version: int, *, turn: int = 0, request_id: str = ""
) -> None:
    """Send the card to the model again, with its picture turned to the right by ``turn`` quarters.

    The history keeps the previous values. Raises OverShare and Unavailable if no session can be queued, and the errors
    of ``ocr.refusals`` if the reading may not be changed; nothing has changed then.
    """
    stored = await in_db(KtpImage.objects.filter(pk=extraction.pk).first)
    if stored is None:
        raise NotOpen
    image = card_image.CardImage(stored.content_type, stored.width, stored.height, bytes(stored.data))
    if turn % 4:
        image = await card_image.make_ready(image.data, turn=turn)
    await asyncio.shield(_send_again(extraction, user, version, image, turn % 4 * 90, request_id))


async def _send_again(
    extraction: KtpExtraction, user: User, version: int, image: card_image.CardImage, degrees: int, request_id: str
) -> None:
    session_id = await in_db(announce_session, extraction.pk)
    session = await _start_session(image, caller_of_user(user), request_id, session_id)
    try:
        await in_db(_begin_again, extraction, user, version, session, image, str(degrees) if degrees else "")
    except Erased:
        await in_db(erase_sessions, [session.pk])
        raise
    except BaseException:
        await in_db(request_cancel, session.pk)
        raise


@recorded_last()
def _begin_again(
    extraction: KtpExtraction,
    user: User,
    version: int,
    session: ChatSession,
    image: card_image.CardImage,
    note: str,
) -> None:
    extraction.read_again(user, version, note=note)
    KtpImage.objects.filter(pk=extraction.pk).update(**_image_columns(image))
    _attach(extraction, session)


@transaction.atomic
def _begin(extraction: KtpExtraction, session: ChatSession, actor: Actor) -> None:
    _attach(extraction, session)
    record(Action.UPLOADED if extraction.uploaded_by_id else Action.API_UPLOADED, actor=actor, card=extraction)


def announce_session(extraction_id: uuid.UUID) -> str:
    """Store the id of a session that will read this card. Open the session with this id. Raises ``Erased``."""
    with transaction.atomic():
        # Locked, so that a reading that is being erased gets no further session.
        if not KtpExtraction.objects.select_for_update().filter(pk=extraction_id).exists():
            raise Erased
        return KtpSession.objects.create(session_id=new_session_id(), extraction_id=extraction_id).pk


async def _start_session(image: card_image.CardImage, caller: str, request_id: str, session_id: str) -> ChatSession:
    return await generations.start_generation(
        session_id=session_id,
        request=stored_request(),
        media=[image],
        origin="ocr",
        request_id=request_id,
        caller=caller,
        # A reading is completed later, so it continues when nobody has ever listened.
        needs_listener=False,
    )


def stored_request() -> StoredRequest:
    """The request to the model for one card: prompt, sampling and the constraint on the answer."""
    has_form, is_upstream = settings.OCR_GRAMMAR, settings.INFERENCE_ENGINE == "openai"
    return StoredRequest(
        messages=prompt.messages(),
        sampling=sampling(),
        constraint=form.CONSTRAINT if has_form and not is_upstream else None,
        # Not every upstream supports schemas; the answer is parsed leniently in any case.
        wire_format=form.WIRE_FORMAT if has_form and is_upstream else None,
        wire_format_is_optional=has_form and is_upstream,
    )


def sampling() -> Sampling:
    """Greedy decoding, at most ``OCR_MAX_TOKENS``, with log probabilities."""
    # Not every upstream supports logprobs; set OCR_DOUBT_BELOW=0 for one that rejects them.
    logprobs = LIKELIEST if settings.OCR_DOUBT_BELOW else None
    return Sampling(max_tokens=settings.OCR_MAX_TOKENS, temperature=0.0, logprobs=logprobs)


def _store(
    image: card_image.CardImage,
    file_name: str,
    caller: str,
    user: User | None,
    and_store: Callable[[KtpExtraction], None] | None,
) -> KtpExtraction:
    with transaction.atomic():
        extraction = KtpExtraction.objects.create(
            file_name=safe_name(file_name), caller=caller, uploaded_by=user, model=settings.SERVED_MODEL_NAME
        )
        KtpImage.objects.create(extraction=extraction, **_image_columns(image))
        if and_store is not None:
            and_store(extraction)
    return extraction


def _image_columns(image: card_image.CardImage) -> dict[str, Any]:
    return {
        "content_type": image.content_type,
        "sha256": picture_lookup(image.data),
        "width": image.width,
        "height": image.height,
        "data": image.data,
        **({"quality": image.quality} if image.quality is not None else {}),
    }


def _attach(extraction: KtpExtraction, session: ChatSession) -> None:
    if not KtpExtraction.objects.filter(pk=extraction.pk).update(session=session):
        raise Erased
    extraction.session = session


def safe_name(file_name: str) -> str:
    """The client's file name without folders and unprintable characters; a long name loses its beginning."""
    name = pathlib.PurePosixPath(clean(file_name).replace("\\", "/")).name
    return name[-FILE_NAME_MAX_CHARS:]


def complete_extraction(pk: uuid.UUID) -> KtpExtraction:
    """Turn the finished session's answer into the reading. Does nothing before the session ends or after completion.

    It also removes the session's text, error message and media. Any number of processes may call this at the same time;
    only one of them writes. Raises ``Erased``.
    """
    extraction = KtpExtraction.objects.select_related("session").filter(pk=pk).first()
    if extraction is None:
        raise Erased
    session = extraction.session
    if extraction.state != KtpExtraction.State.READING or session is None or not session.is_finished:
        return extraction
    answer = _answer_of(session)
    reading: Reading | None = None
    confidences: dict[str, float] = {}
    if session.state == ChatSession.State.COMPLETED and answer.finish_reason:
        tokens = confidence.stored_tokens(answer.first.logprobs)
        reading = judge_answer(answer.text, finish_reason=answer.finish_reason, tokens=tokens)
        confidences = confidence.least_probabilities(tokens)
    with transaction.atomic():
        raw_answer = storable(answer.text)
        if reading is not None:
            is_stored = extraction.mark_read(
                values=reading.values, raw_answer=raw_answer, found=reading.problems, confidence=confidences
            )
        else:
            is_stored = extraction.mark_failed(_why_not_read(session), raw_answer=raw_answer)
        if is_stored:
            sweeper.expire(session.pk)
    if is_stored and reading is not None:
        metrics.count_reading(reading.problems)
    log.info("extraction %s is %s", extraction.pk, extraction.state)
    return extraction


def _answer_of(session: ChatSession) -> Answer:
    """The session's answer; an empty one if a chunk cannot be read as a delta."""
    try:
        return read_answer(session.pk)
    except UNREADABLE_CHUNK_ERRORS:
        about = {"session": session.pk}
        log.exception("session %s: a chunk does not hold a delta", short_id(session.pk), extra=about)
        return Answer()


def _why_not_read(session: ChatSession) -> str:
    if session.state == ChatSession.State.FAILED:
        # The error text is not stored, because it may contain internals of the server.
        return "generation_failed"
    if session.state == ChatSession.State.CANCELLED:
        return "cancelled"
    # The session completed, but no chunk has a finish reason: its chunks expired too early, or cannot be read.
    return "session_lost"


def complete_finished() -> int:
    """Complete extractions whose session has finished, and fail those that lost their session. Returns how many.

    Then remove the text of finished sessions whose extraction was erased, or was completed by an older release.
    """
    completed = 0
    for pk in list(KtpExtraction.objects.completable().values_list("pk", flat=True)[:COMPLETE_BATCH]):
        # An extraction whose data key is missing waits for the key. Its page shows the error.
        with contextlib.suppress(Erased, keyring.DataKeyMissing):
            completed += complete_extraction(pk).state != KtpExtraction.State.READING
    for extraction in KtpExtraction.objects.abandoned(INTERRUPTED_SECONDS)[:COMPLETE_BATCH]:
        with contextlib.suppress(Erased):
            completed += extraction.mark_failed("session_lost")
    for session_id in _left_sessions().values_list("pk", flat=True)[:COMPLETE_BATCH]:
        sweeper.expire(session_id)
    return completed


def _left_sessions() -> ChatSessionQuerySet:
    """Finished sessions of cards whose text no reading needs any more."""
    before = timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS)
    is_stored = Q(ktp_extraction__state__in=(KtpExtraction.State.READ, KtpExtraction.State.FAILED))
    is_orphan = Q(ktp_extraction=None, created_at__lt=before)
    return ChatSession.objects.finished().filter(is_stored | is_orphan, origin="ocr", expired_at=None)
