"""Sessions in the admin, in a real browser: a run that grows before one's eyes, and one that is sent again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.barriers import barriers
from tests.live.events import endless_question, events_of
from tests.live.stack import EmbeddedStack

pytestmark = pytest.mark.browser

PASSWORD = "correct-horse-battery"
LIST = "/admin/sessions_app/chatsession/"
#: a whole look at the facts on a machine that is busy with the run itself
LOOK_MS = 30_000

WORDS = """SELECT json_extract(delta, '$.text') FROM sessions_app_chunk WHERE session_id = ? ORDER BY "index" """
#: a session with the request of a finished one, that has failed; no worker sees it before it has
FAIL_LIKE = """
import django; django.setup()
from django.db import transaction
from sessions_app.models import ChatSession
from sessions_app.store.appending import Closing
from tests.db.session_states import claimed, open_session, say, text
first = ChatSession.objects.get(pk={session_id!r})
with transaction.atomic():
    session = claimed(open_session(session_id={failed_id!r}, request=first.request, model=first.model))
    say(session, text("A pl"), closing=Closing(error={{"message": "It broke.", "code": "broken"}}))
"""


@pytest.fixture(scope="module")
def desk(embedded_server: EmbeddedStack) -> EmbeddedStack:
    """The server with an operator."""
    embedded_server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        f"User.objects.create_superuser('desk', password='{PASSWORD}')\n"
    )
    return embedded_server


@pytest.fixture
def page(browser: Browser, desk: EmbeddedStack) -> Iterator[Page]:
    context = browser.new_context(base_url=desk.base_url)
    page = context.new_page()
    log_in(page)
    yield page
    context.close()


def log_in(page: Page) -> None:
    page.goto("/admin/")
    page.fill("input[name=username]", "desk")
    page.fill("input[name=password]", PASSWORD)
    page.click("main button[type=submit], input[type=submit]")


def page_of(session_id: str) -> str:
    return f"{LIST}{session_id}/change/"


def fact(page: Page, label: str) -> Any:
    return page.locator("#session-facts dt", has_text=re.compile(f"^{label}$")).locator("xpath=following-sibling::dd")


def chunks_shown(page: Page) -> int:
    return int(fact(page, "Chunks").inner_text().replace(",", ""))


def test_the_facts_of_a_running_session_grow_and_a_cancel_is_seen(
    page: Page, desk: EmbeddedStack, session_id: str
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    with desk.client() as http:
        body = endless_question(session_id=session_id)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events_of(response)
            next(stream)
            page.goto(page_of(session_id))
            expect(page.locator("#session-state")).to_have_text("Running")
            before = chunks_shown(page)
            page.wait_for_function(
                """before => [...document.querySelectorAll("#session-facts dt")].some(label =>
                    label.textContent === "Chunks"
                    && Number(label.nextElementSibling.textContent.replaceAll(",", "")) > before)""",
                arg=before,
                timeout=LOOK_MS,
            )
            expect(fact(page, "Lease")).to_contain_text("for another")
            expect(page.locator(".session-timeline")).to_contain_text("First token", timeout=LOOK_MS)
            expect(page.locator("#session-pace svg")).to_be_visible(timeout=LOOK_MS)
            widths = [page.locator(at).bounding_box() for at in ("#session-pace svg", "#session-pace")]
            assert widths[0] and widths[1] and widths[0]["width"] >= 0.99 * (widths[1]["width"] - 2)
            http.post(f"/v1/cancel/{session_id}")
            # Without a reload: the page takes its last form from the server.
            expect(page.locator("#session-state")).to_have_text("Cancelled", timeout=LOOK_MS)
            expect(page.locator(".session-timeline")).to_contain_text("Cancel requested")
            assert list(stream)[-1].data == "[DONE]"
    assert complaints == []


def test_the_list_follows_what_runs_and_leaves_a_choice_alone(page: Page, desk: EmbeddedStack, session_id: str) -> None:
    with desk.client() as http:
        body = endless_question(session_id=session_id)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events_of(response)
            next(stream)
            page.goto(LIST)
            row = page.locator("#result_list tbody tr", has=page.locator(f".session-id[title='{session_id}']"))
            row.locator("input.action-select").check()
            tokens = row.locator(".field-tokens")
            expect(tokens).to_contain_text("of 15,600")  # of four answers
            expect(tokens).not_to_have_text(tokens.inner_text(), timeout=LOOK_MS)
            http.post(f"/v1/cancel/{session_id}")
            expect(row.locator(".session-badge")).to_have_text("Cancelled", timeout=LOOK_MS)
            assert row.locator("input.action-select").is_checked()
            assert list(stream)[-1].data == "[DONE]"


def test_a_failed_session_is_sent_again_and_completed(page: Page, desk: EmbeddedStack, session_id: str) -> None:
    failed_id = f"failed-{session_id}"
    with desk.client() as http:
        question = {"messages": [{"role": "user", "content": "Halo"}], "max_tokens": 12, "session_id": session_id}
        assert http.post("/v1/chat/completions", json=question).status_code == 200
    desk.run_python(FAIL_LIKE.format(session_id=session_id, failed_id=failed_id))
    page.goto(f"{LIST}?q={failed_id}")
    expect(page.locator(".session-why").first).to_have_text("broken")
    page.goto(page_of(failed_id))
    expect(page.locator("#session-state")).to_have_text("Failed")
    page.click("text=Send again as a new session")
    expect(page.locator(".messagelist")).to_contain_text("This is the new session")
    expect(page.locator("#session-state")).to_have_text("Completed", timeout=LOOK_MS)
    new_id = page.locator("#session-id").inner_text()
    assert new_id != failed_id
    # The same request with the same seed: the same answer as the first time.
    answers = ["".join(text for (text,) in desk.query(WORDS, one) if text is not None) for one in (session_id, new_id)]
    assert answers[0] == answers[1] != ""
    page.click(f"text=Has the request of {failed_id}")
    expect(page.locator("#session-id")).to_have_text(failed_id)
    expect(page.locator(f".session-timeline a >> text=Sent again as {new_id}")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sessions_have_no_barriers(browser: Browser, desk: EmbeddedStack, scheme: Any, session_id: str) -> None:
    with desk.client() as http:
        question = {"messages": [{"role": "user", "content": "Halo"}], "max_tokens": 40, "session_id": session_id}
        assert http.post("/v1/chat/completions", json=question).status_code == 200
    desk.run_python(FAIL_LIKE.format(session_id=session_id, failed_id=f"failed-{session_id}"))
    for width in (1280, 390):
        context = browser.new_context(
            base_url=desk.base_url, color_scheme=scheme, viewport={"width": width, "height": 900}
        )
        page = context.new_page()
        log_in(page)
        for path in (f"{LIST}", page_of(session_id), page_of(f"failed-{session_id}")):
            page.goto(path)
            assert barriers(page) == [], (width, path)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, (width, path)
        page.goto(LIST)
        page.check(f"input.action-select[value='failed-{session_id}']")
        page.select_option("select[name=action]", "delete_selected")
        page.click(".actions button[type=submit]")
        expect(page.locator("#content")).to_contain_text("Chunks: 3")
        assert barriers(page) == [], (width, "delete")
        context.close()
