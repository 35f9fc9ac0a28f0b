"""A card is read through the API and the form, corrected and reviewed, and is then nowhere in plain text.

The server runs with ``LOG_LEVEL=DEBUG``. Searched are database file and write-ahead log, every PostgreSQL table, what
went through Redis, logs, and the temporary folder. After it is erased, not even its ciphertexts and digests are there.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr.specimens import make_specimen
from tests import services
from tests.live.conftest import SCALED
from tests.live.leaks import RedisTap, cells_of, found_in, found_in_files, found_in_tables
from tests.live.stack import ROOT, EmbeddedStack, ScaledStack, Stack
from tests.waiting import wait_for

READER = ROOT / "models" / "ktp-reader"
NOTE = "PEMEGANG DATANG SENDIRI"
CSRF = "c" * 32

USERS = """
import django; django.setup()
from django.contrib.auth.models import User
from django.test import Client
user = User.objects.create_superuser('tester')
client = Client(); client.force_login(user)
print(client.cookies['sessionid'].value)
"""
ERASE = """
import django; django.setup()
from ocr.audit.recording import Actor
from ocr.erasing import erase
from ocr.models import KtpExtraction
from ocr.tombstones import Why
print(len(erase(KtpExtraction.objects.all(), why=Why.REQUEST, by=Actor.of_command()).readings))
"""


@dataclasses.dataclass
class Read:
    """A server that has read two cards, and what must not be found."""

    stack: Stack
    browser: httpx.Client
    tap: RedisTap | None
    secrets: dict[str, bytes]
    pks: list[str]


@pytest.fixture(params=["embedded", SCALED])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "tmp").mkdir()
    settings: dict[str, Any] = {
        "OCR_MAX_TOKENS": 500,
        "TORCH_DTYPE": "float32",
        "LOG_LEVEL": "DEBUG",
        "TMPDIR": tmp_path / "tmp",
        "METRICS_DIR": tmp_path / "metrics",
    }
    stack: Stack
    if request.param == "embedded":
        stack = EmbeddedStack(tmp_path, READER, **settings)
    else:
        urls = {"postgres_url": services.POSTGRES_URL, "redis_url": services.OWN_REDIS_URL}
        stack = ScaledStack(tmp_path, READER, **urls, **settings)
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def read(server: Stack) -> Iterator[Read]:
    tap = RedisTap(server.redis_url).start() if isinstance(server, ScaledStack) else None
    server.start()  # type: ignore[attr-defined]
    cookies = {"sessionid": server.run_python(USERS).strip(), "csrftoken": CSRF}
    with httpx.Client(base_url=server.base_url, cookies=cookies, timeout=120, headers={"X-CSRFToken": CSRF}) as browser:
        result = Read(server, browser, tap, {}, [])
        through_api(result)
        through_form_and_review(result)
        yield result


def through_api(read: Read) -> None:
    picture, values = card(1)
    answer = read.browser.post("/ktp-ocr/", files={"image": (f"{values['nama']}.jpg", picture)}).raise_for_status()
    note_secrets(read, "api", answer.json()["meta"]["id"], values | flat(answer.json()))


def through_form_and_review(read: Read) -> None:
    picture, values = card(2)
    sent = read.browser.post("/ocr/", files={"image": (f"{values['nama']}.jpg", picture)})
    assert sent.status_code == 302, sent.text
    page = sent.headers["location"]
    pk = page.strip("/").rpartition("/")[2]
    wait_for(lambda: 'name="version"' in read.browser.get(page).text, seconds=120)
    corrected = {"nama": "SPECIMENTO TERKOREKSI", "alamat_name": "JL. MELATI KHAYALAN 12"}
    saved = read.browser.post(page, data={"version": version_of(read, pk), "action": "save", **corrected})
    assert saved.status_code == 302, saved.text
    desk = f"/admin/ocr/review/{pk}/"
    assert read.browser.get(desk).status_code == 200
    rejected = read.browser.post(
        desk, data={"version": version_of(read, pk), "_reject": "1", "reason": "other", "note": NOTE}
    )
    assert rejected.status_code == 302, rejected.text
    note_secrets(read, "form", pk, values | corrected | {"note": NOTE})


def note_secrets(read: Read, name: str, pk: str, values: Mapping[str, str]) -> None:
    """All that is long enough to be nowhere by chance: values, words of the name, and parts of the stored picture."""
    read.pks.append(pk)
    texts = [values["nik"], values["nama"], *values["nama"].split(), *values.values()]
    read.secrets |= {f"{name}: {text}": text.encode() for text in texts if len(text) >= 9}
    picture = read.browser.get(f"/ocr/{pk}/image/").raise_for_status().content
    assert len(picture) > 10_000
    for part in range(1, 6):
        at = len(picture) * part // 6
        read.secrets[f"{name}: picture, part {part}"] = picture[at : at + 24]


def card(number: int) -> tuple[bytes, dict[str, str]]:
    specimen = make_specimen(20_261_126, number, "flat")
    encoded = io.BytesIO()
    specimen.image.save(encoded, "JPEG", quality=90)
    # Not those that every second card has.
    common = ("jenis_kelamin", "agama", "status_perkawinan", "pekerjaan", "kewarganegaraan", "berlaku_hingga")
    values = specimen.values
    return encoded.getvalue(), {path: value for path, value in values.items() if path not in common}


def flat(answer: Mapping[str, Any]) -> dict[str, str]:
    return {f"read {key}": answer[key] for key in ("nik", "nama")}


def version_of(read: Read, pk: str) -> int:
    key = pk.replace("-", "") if isinstance(read.stack, EmbeddedStack) else pk
    return int(read.stack.query("SELECT version FROM ocr_ktpextraction WHERE id = ?", key)[0][0])


def leaks(read: Read, secrets: Mapping[str, bytes]) -> set[tuple[str, str]]:
    return found_in_files(read.stack.folder, secrets) | found_in_tables(read.stack, secrets)


def test_a_card_that_was_read_is_nowhere_in_plain_text_and_after_erasure_nowhere_at_all(read: Read) -> None:
    assert len(read.secrets) > 20
    assert leaks(read, read.secrets) == set()
    ciphertexts = stored_forms(read)
    kept = {name for _, name in leaks(read, ciphertexts)}
    assert kept == set(ciphertexts), "the search finds what is there"

    assert read.stack.run_python(ERASE).strip() == "2"
    read.browser.close()
    for process in read.stack.processes.values():
        assert process.stop() is not None

    assert leaks(read, read.secrets | ciphertexts) == set()
    if read.tap is not None:
        sent = read.tap.stop()
        assert len(sent) > 1_000
        assert found_in(sent, read.secrets) == set()


def stored_forms(read: Read) -> dict[str, bytes]:
    """Ciphertexts and digests of the readings, as they are in the database."""
    found = {}
    columns = "nik, nama, nik_lookup, name_lookup, file_name"
    for pk in read.pks:
        for number, cell in enumerate(cells_of(read.stack, "ocr_ktpextraction", columns, "id", pk)):
            found[f"column {number} of {pk}"] = cell
        [digest, picture] = cells_of(read.stack, "ocr_ktpimage", "sha256, data", "extraction_id", pk)
        found |= {f"digest of {pk}": digest, f"picture of {pk}": picture[100:124]}
    return {name: cell for name, cell in found.items() if cell}
