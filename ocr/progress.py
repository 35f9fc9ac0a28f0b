"""The progress of readings, and the clerk's actions meanwhile: follow, cancel, turn and read again."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import cast

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from inference.errors import ApiError, OverShare
from inference.readiness import check_model_available
from ocr import extraction as extractions
from ocr.access import is_by_script, is_own, log_in_first, logged_in, own_or_404, sees_values, without_picture
from ocr.audit.actors import Actor
from ocr.audit.models import Action
from ocr.audit.recording import record
from ocr.audit.viewing import note_poll
from ocr.masking import mask_digits
from ocr.models import KtpExtraction
from ocr.refusals import Erased, Refused
from ocr.rows import Reading, queue_places, read_before
from sessions_app import sse
from sessions_app.callers import caller_of_user
from sessions_app.db import in_db, release_connections
from sessions_app.deltas import is_terminal
from sessions_app.models import ChatSession
from sessions_app.request_id import current_request_id
from sessions_app.store.transitions import request_cancel
from sessions_app.views import TooManyStreams, stream_session
from sessions_app.wakeups import StreamChunk

#: maximum readings that one request may ask for
MAX_ASKED = 40
#: a stream ends after this many seconds; the browser reconnects with Last-Event-ID, and its permission is checked again
STREAM_SECONDS = 60
#: the last event of a stream
END = json.dumps({"end": True})


@logged_in
@require_safe
def progress(request: HttpRequest) -> HttpResponse:
    """For scripts: for each ``reading`` in the query its place in the queue, or its row once it is finished."""
    user = cast("User", request.user)
    found = list(without_picture(KtpExtraction.objects.visible_to(user)).filter(pk__in=_asked(request)))
    places = queue_places(found)
    answer: dict[str, dict[str, object]] = {}
    for extraction in found:
        session = extraction.session
        if extraction.state == extraction.State.READING and session is not None and session.is_finished:
            # The sweep would do it within seconds; this request need not wait for it.
            try:
                extraction = extractions.complete_extraction(extraction.pk)
            except Erased:
                continue
        place = places.get(extraction.session_id or "", 0)
        if extraction.state == extraction.State.READING:
            answer[str(extraction.pk)] = {"place": place}
        else:
            note_poll(Actor.of_request(request), extraction.pk, Action.LISTED, where="tray")
            answer[str(extraction.pk)] = {"row": _row(request, extraction)}
    return JsonResponse(answer)


@require_safe
async def events(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    """Stream the text as the model writes it to an EventSource of a user who may see the values."""
    user = await request.auser()
    if not user.is_authenticated:
        return _no_stream(401)
    extraction = await in_db(_readable_by, user, pk)
    session = extraction.session if extraction is not None else None
    if session is None or session.expired_at is not None:
        return _no_stream(404 if extraction is None else 204)
    after = _cursor(request, session)
    if session.is_at_end(after):
        return _no_stream(204)
    await in_db(note_poll, Actor.of_user(user), pk, Action.FOLLOWED)
    try:
        response = stream_session(
            session, after=after, render=_render_text, unreadable=END, removed=END, caller=caller_of_user(user)
        )
    except TooManyStreams:
        return _no_stream(503)
    # Django keeps a request's thread until the response ends, and with it the connection that loaded the log-in.
    await sync_to_async(release_connections)()
    # Without API keys anyone who knows a session's id can read its stream, so the id is not sent to the page.
    del response.headers["X-Session-ID"]
    response.streaming_content = _bounded(cast("AsyncIterator[bytes]", response.streaming_content))
    return response


@logged_in
@require_POST
def cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Cancel one's own reading. A reading that has ended meanwhile is not changed."""
    extraction = own_or_404(request, pk)
    if extraction.session is not None and extraction.state == extraction.State.READING:
        with transaction.atomic():
            session = request_cancel(extraction.session.pk)
            record(Action.CANCELLED, actor=Actor.of_request(request), card=extraction)
        if session.is_finished:
            extraction = extractions.complete_extraction(pk)
    return _answer(request, extraction)


@never_cache
async def turn(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Read one's own card again, with its picture turned to the right by the form's ``quarters``."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    user = cast("User", await request.auser())
    if not user.is_authenticated:
        return log_in_first(request)
    request.user = user
    extraction = await in_db(own_or_404, request, pk)
    try:
        quarters, version = int(request.POST.get("quarters", "")), int(request.POST.get("version", ""))
    except ValueError:
        raise BadRequest("A value in the request has the wrong type.") from None
    try:
        await check_model_available()
        await extractions.read_again(extraction, user, version, turn=quarters, request_id=current_request_id())
    except OverShare:
        return await in_db(_refused, request, pk, _("Many of your cards are waiting already. Try again later."), 429)
    except ApiError:
        return await in_db(
            _refused, request, pk, _("The card reader is not available now. Try again in a moment."), 503
        )
    except Refused:
        return await in_db(_refused, request, pk, _("This reading has changed meanwhile. Look at it again."), 409)
    return await in_db(_answer, request, extraction)


def _refused(request: HttpRequest, pk: uuid.UUID, message: str, status: int) -> HttpResponse:
    if is_by_script(request):
        return JsonResponse({"message": message}, status=status)
    messages.error(request, message)
    return redirect("ocr:result", pk=pk)


def _answer(request: HttpRequest, extraction: KtpExtraction) -> HttpResponse:
    """For a script the reading's row; otherwise a redirect to its page."""
    if is_by_script(request):
        return HttpResponse(_row(request, extraction))
    return redirect("ocr:result", pk=extraction.pk)


def _row(request: HttpRequest, extraction: KtpExtraction) -> str:
    user = cast("User", request.user)
    image = getattr(extraction, "image", None)
    reading = Reading(
        extraction,
        may_change=is_own(extraction, user),
        seen_before=read_before(image.lookups(), user, besides=extraction) if image is not None else None,
        place=sum(queue_places([extraction]).values()),
    )
    return render_to_string("ocr/row.html", {"reading": reading}, request)


def _asked(request: HttpRequest) -> list[uuid.UUID]:
    try:
        return [uuid.UUID(text) for text in request.GET.getlist("reading")[:MAX_ASKED]]
    except ValueError:
        raise BadRequest("A reading has another id.") from None


def _readable_by(user: User, pk: uuid.UUID) -> KtpExtraction | None:
    """The reading, if the user may see it with the holder's data."""
    extraction = KtpExtraction.objects.visible_to(user).select_related("session").filter(pk=pk).first()
    return extraction if extraction is not None and sees_values(extraction, user) else None


def _no_stream(status: int) -> HttpResponse:
    """An answer without a stream, after which an EventSource does not reconnect."""
    return HttpResponse(status=status, headers={"Cache-Control": "no-store"})


def _cursor(request: HttpRequest, session: ChatSession) -> int:
    """The index of the browser's last event; -1 for the whole stream, if that event was of an earlier session."""
    try:
        cursor = sse.parse_cursor(request.headers.get("Last-Event-ID", ""))
    except sse.MalformedCursor:
        return -1
    return cursor.index if cursor.session_id == session.pk and cursor.index < session.next_index else -1


def _render_text(chunk: StreamChunk) -> str | None:
    if is_terminal(chunk.delta):
        return END
    if chunk.delta["type"] == "text" and not chunk.delta.get("choice"):
        # All pages mask NIK and date of birth until they are revealed, and this stream has no reveal.
        return json.dumps({"text": mask_digits(chunk.delta["text"])})
    return None


async def _bounded(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    until = loop.time() + STREAM_SECONDS
    async for piece in stream:
        yield piece
        if loop.time() > until:
            return
