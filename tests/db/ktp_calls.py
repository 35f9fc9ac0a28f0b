"""Calls of the API for cards, as an integrator makes them, and a worker that answers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.test import Client

from sessions_app.models import ChatSession
from tests.db.ktp_cards import CARD_JSON, answer

KEYS = [
    *("nik", "nama", "tempat_lahir", "tgl_lahir", "jenis_kelamin", "alamat", "agama", "status_perkawinan"),
    *("pekerjaan", "kewarganegaraan", "berlaku_hingga", "meta"),
]
ASYNC = {"Prefer": "respond-async"}


def post(client: Client, data: bytes | None = None, *, path: str = "/ktp-ocr/", **extra: Any) -> Any:
    """Send one picture, or none."""
    files = {} if data is None else {"image": SimpleUploadedFile("ktp.jpg", data, "image/jpeg")}
    return client.post(path, files, **extra)


def error_of(response: Any) -> dict[str, Any]:
    """The error of an answer, which is nothing but an error."""
    assert list(response.json()) == ["error"]
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def with_key(key: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **headers}


def complete(text: str = CARD_JSON, **how: Any) -> None:
    """Answer the reading that waits, as a worker would."""
    answer(ChatSession.objects.queued().get().pk, text, **how)


@pytest.fixture
def model_that_says(settings: Any) -> Iterator[Callable[..., None]]:
    """A worker in a thread that gives the next session one answer."""
    settings.HUB_POLL_SECONDS = 0.05
    stop = threading.Event()
    threads: list[threading.Thread] = []
    one_at_a_time = threading.Lock()

    def start(text: str = "", **how: Any) -> None:
        def work() -> None:
            try:
                while not stop.wait(0.01):
                    # Two workers must not answer the same session.
                    with one_at_a_time:
                        session = ChatSession.objects.queued().first()
                        if session is not None:
                            return answer(session.pk, text, **how)
            finally:
                connections.close_all()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()
