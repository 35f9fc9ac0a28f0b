"""What people see, in a real browser: the KTP form without JavaScript, the admin's cancel, an EventSource."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import services
from tests.live.events import events_of, long_question
from tests.live.stack import EmbeddedStack
from tests.live.waiting import wait_for
from tests.media_samples import image_bytes

pytestmark = pytest.mark.browser
PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=services.chromium(), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def staffed_server(embedded_server: EmbeddedStack) -> EmbeddedStack:
    """The server with an operator and a clerk."""
    embedded_server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        f"User.objects.create_superuser('operator', password='{PASSWORD}')\n"
        f"User.objects.create_user('clerk', password='{PASSWORD}')\n"
    )
    return embedded_server


def log_in(page: Page, name: str) -> None:
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", PASSWORD)
    page.click("main button[type=submit], input[type=submit]")


def test_a_clerk_uploads_a_card_without_javascript(
    browser: Browser, staffed_server: EmbeddedStack, tmp_path: Path
) -> None:
    card = tmp_path / "card.png"
    card.write_bytes(image_bytes((320, 200), color="white"))
    context = browser.new_context(java_script_enabled=False, base_url=staffed_server.base_url)
    page = context.new_page()
    page.goto("/ocr/")
    assert "/accounts/login/" in page.url
    log_in(page, "clerk")
    page.set_input_files("input[type=file]", card)
    page.click("main button[type=submit]")
    assert re.search(r"/ocr/[0-9a-f-]{36}/$", page.url)
    # The page asks again by itself until the reading is there.
    expect(page.locator("body")).to_contain_text("NIK", timeout=30_000)
    expect(page.locator("main img")).to_be_visible()
    rows = staffed_server.query(
        "SELECT state FROM ocr_ktpextraction WHERE id = ?", page.url.rstrip("/").rsplit("/", 1)[1].replace("-", "")
    )
    assert rows == [("read",)]
    context.close()


def test_a_file_that_is_no_image_is_refused_beside_the_field(
    browser: Browser, staffed_server: EmbeddedStack, tmp_path: Path
) -> None:
    wrong = tmp_path / "card.png"
    wrong.write_bytes(b"not an image")
    context = browser.new_context(java_script_enabled=False, base_url=staffed_server.base_url)
    page = context.new_page()
    page.goto("/ocr/")
    log_in(page, "clerk")
    before = staffed_server.query("SELECT count(*) FROM ocr_ktpextraction")
    page.set_input_files("input[type=file]", wrong)
    page.click("main button[type=submit]")
    expect(page.locator("form .error, form .problem").first).to_be_visible()
    assert staffed_server.query("SELECT count(*) FROM ocr_ktpextraction") == before
    context.close()


def test_an_operator_watches_a_run_grow_and_cancels_it_in_the_admin(
    browser: Browser, staffed_server: EmbeddedStack
) -> None:
    context = browser.new_context(base_url=staffed_server.base_url)
    page = context.new_page()
    page.goto("/admin/")
    log_in(page, "operator")
    body = long_question(session_id="watched", max_tokens=3500)
    with staffed_server.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
        stream = events_of(response)
        next(stream)
        page.goto("/admin/sessions_app/chatsession/watched/change/")
        answer = page.locator("#session-answer")
        shown = len(answer.inner_text())
        expect(answer).not_to_have_text(answer.inner_text(), timeout=15_000)
        assert len(answer.inner_text()) > shown
        page.click("text=/^Cancel/")
        assert list(stream)[-1].data == "[DONE]"
    wait_for(
        lambda: (
            staffed_server.query("SELECT state FROM sessions_app_chatsession WHERE id = 'watched'") == [("cancelled",)]
        )
    )
    context.close()


def test_an_eventsource_reads_the_stream_and_stops_at_its_end(
    browser: Browser, staffed_server: EmbeddedStack, session_id: str
) -> None:
    with staffed_server.client() as http:
        finished = http.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "max_tokens": 8, "session_id": session_id},
        )
        assert finished.status_code == httpx.codes.OK
    context = browser.new_context(base_url=staffed_server.base_url)
    page = context.new_page()
    page.goto("/health")
    seen = page.evaluate(
        """async address => {
            const source = new EventSource(address), seen = [];
            await new Promise(resolve => {
                source.onmessage = event => seen.push([event.lastEventId, event.data]);
                source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(); };
            });
            return seen;
        }""",
        f"/v1/sessions/{session_id}/events",
    )
    assert seen[0][0] == f"{session_id}:0"
    assert seen[-1][1] == "[DONE]"
    assert len({event_id for event_id, _ in seen}) == len(seen)
    context.close()
