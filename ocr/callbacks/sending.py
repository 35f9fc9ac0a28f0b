"""One attempt of a callback: claimed, sent, noted. ``courier.py`` makes them, in a thread of every worker.

An attempt is counted, and the next one planned, before it is made: a callback survives the process, and may come twice.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from inference.errors import InvalidMedia
from inference.media.addresses import Resolver
from inference.media.destinations import CONNECTION_ERRORS, connect, new_pool, parse_url
from inference.media.lookups import resolve_host
from ocr.audit.recording import Action, Actor, record
from ocr.callbacks.address import FIELD, callback_hosts, sends_callbacks
from ocr.callbacks.models import MAX_ERROR_CHARS, KtpCallback, pause_after
from ocr.callbacks.signing import HEADER, signature

if TYPE_CHECKING:
    from ocr.models import KtpExtraction

log = logging.getLogger(__name__)

#: callbacks of one host that a worker sends at once, so that a receiver that hangs leaves places to the others
PLACES_OF_HOST = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt."""

    status: int | None = None
    error: str = ""

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def claim(places: int, under_way: Mapping[str, int]) -> Iterator[KtpCallback]:
    """Claim at most ``places`` of those due, the longest due first, and at most ``PLACES_OF_HOST`` of a host.

    ``under_way`` counts those of each host that are being sent. A claim plans the next attempt, so another process that
    saw the same row claims nothing. Each claim is yielded at once, so that a later error of the database does not lose
    it. Without ``OCR_CALLBACK_HOSTS`` or ``OCR_CALLBACK_SECRETS`` nothing is claimed, and all wait.
    """
    of_host = Counter(under_way)
    while sends_callbacks() and places > 0:
        full = [host for host, count in of_host.items() if count >= PLACES_OF_HOST]
        due = KtpCallback.objects.due().exclude(host__in=full).select_related("extraction", "submission")
        found = list(due.order_by("next_try_at")[:places])
        if not found:
            break
        for callback in found:
            if of_host[callback.host] < PLACES_OF_HOST and _claim_one(callback):
                of_host[callback.host] += 1
                places -= 1
                yield callback


def _claim_one(callback: KtpCallback) -> bool:
    """Returns whether to send it. One whose last attempt has begun, but was never noted, is given up instead."""
    mine = KtpCallback.objects.filter(pk=callback.pk, state=KtpCallback.State.PENDING, attempts=callback.attempts)
    if callback.is_last:
        if mine.update(state=KtpCallback.State.FAILED):
            _log_given_up(callback)
        return False
    # Not before this attempt has ended, however long it may take.
    timeout = datetime.timedelta(seconds=settings.OCR_CALLBACK_TIMEOUT_SECONDS)
    next_try_at = timezone.now() + timeout + pause_after(callback.attempts + 1)
    if not mine.update(attempts=F("attempts") + 1, next_try_at=next_try_at):
        return False
    callback.attempts += 1
    return True


def hand_back(callbacks: Sequence[KtpCallback]) -> None:
    """Take back the attempts that a stop cut off, so that another worker makes them at once."""
    for callback in callbacks:
        mine = KtpCallback.objects.filter(pk=callback.pk, state=KtpCallback.State.PENDING, attempts=callback.attempts)
        mine.update(attempts=F("attempts") - 1, next_try_at=timezone.now())


async def send(callback: KtpCallback, resolve: Resolver | None = None) -> Attempt:
    """Make one attempt. Nothing is raised, and nothing of the database is touched."""
    # Names that never resolve hold up those of their own host alone.
    resolve = resolve or functools.partial(resolve_host, caller=f"callback {callback.host}")
    try:
        return await _send(callback, resolve)
    except Exception:
        log.exception("callback %s: it was not sent", callback.pk, extra=_about(callback))
        return Attempt(error="The server could not send it; its log says why.")


async def _send(callback: KtpCallback, resolve: Resolver) -> Attempt:
    body = json.dumps(body_of(callback), separators=(",", ":")).encode()
    at = int(timezone.now().timestamp())
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Sambung-Callback-Id": str(callback.pk),
        HEADER: signature(body, at=at, secrets=settings.OCR_CALLBACK_SECRETS),
    }
    try:
        async with asyncio.timeout(settings.OCR_CALLBACK_TIMEOUT_SECONDS), new_pool() as pool:
            response = await connect(
                pool,
                parse_url(callback.url, FIELD),
                FIELD,
                resolve,
                callback_hosts(),
                method="POST",
                headers=headers,
                content=body,
            )
            # Its body is not read, and a redirect is not followed.
            await response.aclose()
    except InvalidMedia as error:
        return Attempt(error=error.message)
    except TimeoutError:
        return Attempt(error=f"It took longer than {settings.OCR_CALLBACK_TIMEOUT_SECONDS:g} seconds.")
    except CONNECTION_ERRORS:
        return Attempt(error="The connection broke off.")
    is_good = 200 <= response.status < 300
    return Attempt(response.status, "" if is_good else f"The URL answered with status {response.status}.")


def body_of(callback: KtpCallback) -> dict[str, Any]:
    """What is sent: which reading or batch has ended. Nothing of a card; the receiver GETs that with its key."""
    from ocr.api.rendering import location_of, location_of_batch  # the API imports this package

    if callback.submission is not None:
        batch = callback.submission
        return {"id": str(batch.pk), "kind": "batch", "state": "ended", "location": location_of_batch(batch)}
    reading = cast("KtpExtraction", callback.extraction)  # the table's constraint
    return {"id": str(reading.pk), "kind": "reading", "state": reading.state, "location": location_of(reading)}


@transaction.atomic
def note(callback: KtpCallback, attempt: Attempt) -> None:
    """Store what came of the attempt, and in the audit log that it was delivered."""
    rows = KtpCallback.objects.filter(pk=callback.pk, state=KtpCallback.State.PENDING)
    columns: dict[str, Any] = {"status": attempt.status, "error": attempt.error[:MAX_ERROR_CHARS]}
    if attempt.is_delivered:
        columns |= {"state": KtpCallback.State.DELIVERED, "delivered_at": timezone.now()}
    elif callback.is_last:
        columns |= {"state": KtpCallback.State.FAILED}
        _log_given_up(callback)
    else:
        # If a newer attempt has begun, this result is out of date.
        rows = rows.filter(attempts=callback.attempts)
    is_noted = rows.update(**columns)
    if is_noted and attempt.is_delivered:
        # Without the host: the caller chose its name, under a wildcard with any digits.
        actor = Actor.of_caller(callback.caller)
        record(Action.DELIVERED, actor=actor, card=callback.extraction, facts=_about(callback))


def _about(callback: KtpCallback) -> dict[str, str]:
    return {"callback": str(callback.pk)}


def _log_given_up(callback: KtpCallback) -> None:
    log.warning("callback %s is given up after %d attempts", callback.pk, callback.attempts, extra=_about(callback))


def send_again(callbacks: Sequence[KtpCallback]) -> int:
    """Set them back to pending, with all attempts, however they ended. Returns how many."""
    return KtpCallback.objects.filter(pk__in=[callback.pk for callback in callbacks]).update(
        state=KtpCallback.State.PENDING, attempts=0, next_try_at=timezone.now(), delivered_at=None
    )
