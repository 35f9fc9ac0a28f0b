"""The front page of the admin in a real browser: a run grows before one's eyes, and is stopped there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.barriers import barriers
from tests.live.stack import EmbeddedStack
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
NAME, PASSWORD = "desk-operator", "correct-horse-battery"
#: several refreshes of the page
REFRESHED_MS = 30_000

#: A session that generates for as long as the test wants, at a speed that is not the machine's. It is claimed with its
#: opening, so that the server's own worker never sees it wait.
GENERATE = """
import time
import django; django.setup()
from django.db import transaction
from sessions_app.store.appending import Closing
from tests.db.session_states import claimed, open_session, say, text
request = {{"messages": [], "sampling": {{"max_tokens": 100_000}}}}
with transaction.atomic():
    session = claimed(open_session(session_id="{session_id}", request=request, caller="key:a-b"))
while session.cancel_requested_at is None:
    say(session, text("a"), text("b"))
    time.sleep(0.2)
    session.refresh_from_db(fields=["cancel_requested_at"])
say(session, closing=Closing(reason="cancelled"))
"""


@pytest.fixture(scope="module")
def server(embedded_server: EmbeddedStack) -> EmbeddedStack:
    embedded_server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        f"User.objects.create_superuser({NAME!r}, password={PASSWORD!r})\n"
    )
    return embedded_server


@pytest.fixture
def session_id(server: EmbeddedStack) -> Iterator[str]:
    """Of a session that runs until somebody stops it."""
    session_id = f"now-{secrets.token_hex(4)}"
    process = server.launch(session_id, "-c", GENERATE.format(session_id=session_id))
    wait_for(lambda: state_of(server, session_id) == "running")
    yield session_id
    process.stop()
    del server.processes[session_id]


def state_of(server: EmbeddedStack, session_id: str) -> str:
    rows = server.query("SELECT state FROM sessions_app_chatsession WHERE id = ?", session_id)
    return rows[0][0] if rows else ""


def front_page(browser: Browser, server: EmbeddedStack, **options: Any) -> Page:
    page = browser.new_context(base_url=server.base_url, **options).new_page()
    page.goto("/admin/")
    page.fill("input[name=username]", NAME)
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")
    return page


def test_a_run_grows_on_the_front_page_and_stops_there(
    browser: Browser, server: EmbeddedStack, session_id: str
) -> None:
    page = front_page(browser, server)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/admin/")
    line = page.locator(f"tr[data-key='{session_id}']")
    tokens, button = line.locator(".now-tokens"), line.get_by_role("button")
    first = tokens.inner_text()
    button.focus()
    expect(tokens).not_to_have_text(first, timeout=REFRESHED_MS)
    assert int(tokens.inner_text().split()[0].replace(",", "")) > int(first.split()[0].replace(",", ""))
    # It is the same button as before, so that no click is lost in a refresh.
    assert button.evaluate("element => element === document.activeElement")
    button.click()
    expect(page.locator(".messagelist")).to_have_text("The session is being stopped.")
    expect(line).to_have_count(0, timeout=REFRESHED_MS)
    wait_for(lambda: state_of(server, session_id) == "cancelled")
    assert complaints == []
    page.context.close()


def test_all_of_a_caller_are_stopped_with_a_confirmation(
    browser: Browser, server: EmbeddedStack, session_id: str
) -> None:
    page = front_page(browser, server)
    page.goto("/admin/")
    page.locator(f"tr[data-key='{session_id}']").get_by_role("link", name="Stop all").click()
    expect(page.locator("#content")).to_contain_text(session_id)
    page.click("text=Stop them")
    expect(page.locator(".messagelist")).to_have_text("1 session is being stopped.")
    wait_for(lambda: state_of(server, session_id) == "cancelled")
    page.context.close()


def test_the_page_says_that_the_server_does_not_answer_and_goes_on_when_it_does(
    browser: Browser, server: EmbeddedStack, session_id: str
) -> None:
    page = front_page(browser, server)
    page.goto("/admin/")
    tokens = page.locator(f"tr[data-key='{session_id}'] .now-tokens")
    warning = page.locator("#now-line")
    expect(warning).to_be_hidden()
    page.route("**/admin/now/**", lambda route: route.abort())
    expect(warning).to_be_visible(timeout=REFRESHED_MS)
    before = tokens.inner_text()
    page.unroute("**/admin/now/**")
    expect(warning).to_be_hidden(timeout=REFRESHED_MS)
    expect(tokens).not_to_have_text(before, timeout=REFRESHED_MS)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_front_page_has_no_barriers_and_fits(
    browser: Browser, server: EmbeddedStack, session_id: str, scheme: Any, width: int
) -> None:
    page = front_page(browser, server, color_scheme=scheme, viewport={"width": width, "height": 800})
    for address in ("/admin/", "/admin/now/table/", "/admin/now/stop/?caller=key:a-b"):
        page.goto(address)
        assert barriers(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    page.context.close()
