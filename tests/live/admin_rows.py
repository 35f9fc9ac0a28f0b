"""Rows for every list of the admin, with values as long as they come. Run in a server's own settings."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from tests.live import desk_cards  # isort: skip  (sets Django up)

from axes.models import AccessAttempt
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from inference.models import ModelWorker
from inference.worker.load import WorkerLoad
from tests.db.session_states import completed, failed, png
from tests.live.pages import PASSWORD

MODEL = "Qwen/Qwen3-VL-2B-Thinking"
LONG_HOST = "gpu-host-{}.internal.example:4711:a1b2c3d4"


@transaction.atomic
def fill() -> list[str]:
    """The addresses of all pages of the admin that have rows to show. All rows are made, or none."""
    operator = User.objects.create_superuser("operator", password=PASSWORD)
    clerk = User.objects.create_user(
        "a-clerk-of-the-registry-office",
        email="a-clerk-of-the-registry-office@dinas-kependudukan.example",
        first_name="Siti",
        last_name="Rahmawati Kusumaningrum Wirjosandjojo",
    )
    LogEntry.objects.log_actions(operator.pk, [clerk], CHANGE, "Changed a thing of which much can be said. " * 5)
    desk_cards.make_person("rina", "Reviewer")
    cards = [
        desk_cards.make_card(number, uncertain=number, uploader=clerk.username if number else "") for number in range(3)
    ]
    desk_cards.make_card(3, decided="rina")
    worker = _fill_workers()
    session = completed("The capital of Indonesia is Jakarta. " * 40, model=MODEL, media=[png()], caller="2001:db8::1")
    failure = failed("The worker was lost three times while it generated this answer. " * 3)
    AccessAttempt.objects.create(
        username=clerk.username,
        ip_address="2001:db8:1111:2222:3333:4444:5555:6666",
        user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0",
        path_info="/accounts/login/",
        get_data="",
        post_data="username=a-clerk",
        http_accept="text/html",
        failures_since_start=5,
    )
    return [
        "",
        "now/table/",
        "sessions_app/chatsession/",
        "sessions_app/chatsession/?q=worker",
        f"sessions_app/chatsession/{quote(session.pk)}/change/",
        f"sessions_app/chatsession/{quote(session.pk)}/delete/",
        f"sessions_app/chatsession/{quote(failure.pk)}/change/",
        f"sessions_app/chunk/?session__id__exact={session.pk}",
        "inference/modelworker/",
        f"inference/modelworker/{quote(worker)}/change/",
        "ocr/ktpextraction/",
        f"ocr/ktpextraction/{cards[1]}/change/",
        f"ocr/ktpextraction/{cards[0]}/delete/",
        "ocr/review/",
        f"ocr/review/{cards[2]}/",
        "ocr/review/accuracy/",
        "auth/user/",
        "auth/user/add/",
        f"auth/user/{clerk.pk}/change/",
        f"auth/user/{clerk.pk}/password/",
        f"auth/user/{clerk.pk}/history/",
        f"auth/user/{clerk.pk}/delete/",
        "auth/group/",
        "auth/group/1/change/",
        "auth/",
        "axes/accessattempt/",
        f"axes/accessattempt/{AccessAttempt.objects.get().pk}/change/",
        "password_change/",
        "no-such-page/",
    ]


def _fill_workers() -> str:
    """One in each state, heard for as long as the tests run; the name of one with an error."""
    state = ModelWorker.State
    heard = timezone.now() + datetime.timedelta(hours=1)
    load = dataclasses.asdict(WorkerLoad(12, 16, 71_000, 98_304, "cuda:0", 61 * 2**30, 80 * 2**30, 1412.7))
    reason = f"The model {MODEL} does not fit into the memory of the GPU: 5.1 GiB are needed and 3.2 GiB are free."
    rows: list[dict[str, Any]] = [
        {"state": state.READY, "running": 12, "load": load},
        {"state": state.READY, "running": 2, "load": load, "drain": True},
        {"state": state.LOADING, "progress": "loading the weights: 312 of 625 (50%)"},
        {"state": state.STOPPED},
        {"state": state.FAILED, "error": reason},
    ]
    for number, columns in enumerate(rows):
        ModelWorker.objects.create(
            **{"name": LONG_HOST.format(number), "model": MODEL, "heartbeat_at": heard, **columns}
        )
    return LONG_HOST.format(number)
