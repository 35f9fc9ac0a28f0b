"""What people see, in a real browser: the KTP form without JavaScript, the admin's cancel, an EventSource."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.barriers import barriers
from tests.live.events import WHOLE, endless_question, events_of, long_question
from tests.live.pages import PASSWORD, OpenPage, log_in
from tests.live.stack import EmbeddedStack
from tests.media_samples import image_bytes
from tests.waiting import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def staffed_server(embedded_server: EmbeddedStack) -> EmbeddedStack:
    """The server with an operator and a clerk."""
    embedded_server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import Permission, User\n"
        f"User.objects.create_superuser('operator', password='{PASSWORD}')\n"
        f"clerk = User.objects.create_user('clerk', password='{PASSWORD}')\n"
        "clerk.user_permissions.add(Permission.objects.get(codename='add_ktpextraction'))\n"
        f"User.objects.create_user('visitor', password='{PASSWORD}')\n"
    )
    return embedded_server


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """Where a web server of somebody else's listens: its pages call ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BlankPage)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


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
    expect(page.locator("main img")).to_be_visible()
    while (again := page.get_by_role("link", name="Look again")).count():
        again.click()
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
    # Eight answers: it is still running when the page has been looked at.
    body = endless_question(session_id="watched", n=8)
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


@pytest.fixture
def page(browser: Browser, staffed_server: EmbeddedStack) -> Iterator[Page]:
    """A page whose every breach of the content security policy, and every other error, fails the test."""
    context = browser.new_context(base_url=staffed_server.base_url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "requestfailed",
        # What a page gives up because it is left is no failure.
        lambda request: (
            None if request.failure == "net::ERR_ABORTED" else complaints.append(f"{request.url} {request.failure}")
        ),
    )
    own = (staffed_server.base_url, "data:", "blob:", "ws:")
    page.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
    yield page
    context.close()
    assert complaints == []


def test_every_page_works_under_its_policy(page: Page, staffed_server: EmbeddedStack, tmp_path: Path) -> None:
    page.goto("/")
    expect(page.locator("h1")).to_have_text("Sambung")
    assert page.evaluate("getComputedStyle(document.querySelector('.top')).display") == "flex"
    page.goto("/ocr/")
    log_in(page, "operator")
    card = tmp_path / "card.png"
    card.write_bytes(image_bytes((320, 200), color="white"))
    expect(page.locator("html.scripted")).to_be_attached()
    page.set_input_files("input[type=file]", card)
    expect(page.locator("#tray-summary")).to_have_text("1 of 1 read", timeout=30_000)
    page.locator("#tray a.button").click()
    expect(page.locator("main .card-image img")).to_be_visible()
    page.wait_for_function("document.querySelector('main img').naturalWidth > 0")
    reading = page.url.rstrip("/").rsplit("/", 1)[1]
    for path in (
        "/admin/",
        "/admin/ocr/ktpextraction/",
        f"/admin/ocr/ktpextraction/{reading}/change/",
        "/admin/sessions_app/chatsession/",
        "/admin/sessions_app/chunk/",
        "/admin/inference/modelworker/",
        "/admin/axes/accessattempt/",
        "/admin/auth/user/",
        "/admin/auth/user/add/",
    ):
        page.goto(path)
        expect(page.locator("#content")).to_be_visible()
    # A page with script of the admin's own: the two lists that a permission is moved between.
    page.goto("/admin/auth/user/")
    page.click("text=visitor")
    expect(page.locator(".selector-chosen").first).to_be_visible()
    picture = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(card.read_bytes()).decode()}"},
    }
    messages = [{"role": "user", "content": [picture]}]
    with staffed_server.client() as http:
        body = long_question(session_id="pictured", messages=messages, max_tokens=2, **WHOLE)
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    page.goto("/admin/sessions_app/chatsession/pictured/change/")
    expect(page.locator(".session-media img")).to_be_visible()
    assert page.locator(".session-copy").is_visible()  # our script has run


def test_the_api_pages_work_without_anything_from_elsewhere(page: Page) -> None:
    page.goto("/docs")
    page.click("[data-path='/v1/models'] a")
    page.click("button.try-out__btn")
    page.click("button.execute")
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200", timeout=15_000)


def test_the_api_pages_can_be_read(open_page: OpenPage, staffed_server: EmbeddedStack) -> None:
    """Its colours; its markup is Swagger's, which nests a link in a button and labels no select."""
    page = open_page(staffed_server)
    page.goto("/docs")
    expect(page.locator(".opblock-summary-control").first).to_be_visible(timeout=15_000)
    for operation in page.locator(".opblock-summary-control").all():
        operation.click()
    expect(page.locator(".opblock.is-open .responses-inner").last).to_be_visible(timeout=15_000)
    unreadable = [barrier for barrier in barriers(page) if barrier.startswith(("color-contrast", "html-has-lang"))]
    assert unreadable == []


def test_the_live_view_works_under_the_policy_and_ends_with_the_log_in(
    page: Page, staffed_server: EmbeddedStack
) -> None:
    page.goto("/admin/")
    log_in(page, "operator")
    body = endless_question(session_id="guarded", n=8)
    with staffed_server.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
        next(events_of(response))
        page.goto("/admin/sessions_app/chatsession/guarded/change/")
        expect(page.locator("#session-live-status")).to_have_text("Live.", timeout=15_000)
        other = page.context.new_page()
        other.goto("/")
        other.click("text=Log out")
        # Its page asks the server, which asks to log in.
        page.wait_for_url("**/admin/login/**", timeout=15_000)
        http.post("/v1/cancel/guarded")


def test_a_visitor_without_the_right_is_told_what_to_ask_for(browser: Browser, staffed_server: EmbeddedStack) -> None:
    context = browser.new_context(base_url=staffed_server.base_url)
    page = context.new_page()
    page.goto("/ocr/")
    log_in(page, "visitor")
    expect(page.locator("main")).to_contain_text("You may not upload cards")
    expect(page.locator("input[type=file]")).to_have_count(0)
    context.close()


def test_wrong_passwords_lead_to_a_page_that_says_until_when(browser: Browser, staffed_server: EmbeddedStack) -> None:
    context = browser.new_context(base_url=staffed_server.base_url)
    page = context.new_page()
    for _ in range(5):
        page.goto("/accounts/login/")
        page.fill("input[name=username]", "nobody")
        page.fill("input[name=password]", "wrong")
        page.click("main button[type=submit]")
    expect(page.locator("h1")).to_have_text("Locked for now")
    expect(page.locator("[role=alert]")).to_contain_text("Try again at")
    context.close()


#: what the official JavaScript SDK sends from a browser, and how it reads the stream
AS_THE_SDK_ASKS = """async address => {
    const response = await fetch(`${address}/v1/chat/completions`, {
        method: "POST",
        headers: {
            "accept": "application/json", "authorization": "Bearer unused", "content-type": "application/json",
            "x-stainless-arch": "unknown", "x-stainless-lang": "js", "x-stainless-os": "Unknown",
            "x-stainless-package-version": "6.0.0", "x-stainless-retry-count": "0", "x-stainless-timeout": "600",
            "x-stainless-runtime": "browser:chrome", "x-stainless-runtime-version": "150.0.0",
        },
        body: JSON.stringify({messages: [{role: "user", content: "x"}], max_tokens: 8, stream: true}),
    });
    return [response.status, response.headers.get("X-Session-ID"), await response.text()];
}"""

#: what a page can send without that the browser asks first
AS_A_FORM_IS_SENT = """async address => {
    const form = new FormData();
    form.append("image", new Blob([new Uint8Array(100)], {type: "image/png"}), "card.png");
    const sent = await fetch(`${address}/ktp-ocr/`, {method: "POST", body: form, mode: "no-cors"});
    const read = path => fetch(`${address}${path}`).then(() => "read", error => String(error));
    return [sent.type, await read("/health"), await read("/v1/models")];
}"""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_page_of_this_machine_may_use_the_api_as_the_sdk_does(
    browser: Browser, staffed_server: EmbeddedStack, other_port: int, name: str
) -> None:
    page = browser.new_page()
    page.goto(f"http://{name}:{other_port}/")
    status, session_id, stream = page.evaluate(AS_THE_SDK_ASKS, staffed_server.base_url)
    assert status == httpx.codes.OK
    assert session_id.startswith("sess_")
    assert stream.rstrip().endswith("[DONE]")
    page.close()


def test_a_page_of_another_site_may_not_even_send_a_form(
    browser: Browser, staffed_server: EmbeddedStack, other_port: int
) -> None:
    page = browser.new_page()
    page.goto(f"http://evil.example:{other_port}/")
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status))
    kind, *reads = page.evaluate(AS_A_FORM_IS_SENT, staffed_server.base_url)
    assert kind == "opaque"
    assert all("Failed to fetch" in read for read in reads)
    assert answers[0] == httpx.codes.FORBIDDEN
    page.close()
