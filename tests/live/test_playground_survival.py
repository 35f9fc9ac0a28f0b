"""What the playground promises: whatever breaks while an answer runs, the answer is there, whole and once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.live.events import WHOLE
from tests.live.playground import Playground
from tests.live.stack import EmbeddedStack

pytestmark = pytest.mark.browser
QUESTION = "Ceritakan sesuatu yang panjang."
PARAMETERS: dict[str, Any] = {"max_tokens": 3000, "min_tokens": 3000, "seed": 11, "temperature": 1}
#: events before something breaks
SEEN = 20


@pytest.fixture
def playground(browser: Browser, embedded_server: EmbeddedStack) -> Iterator[Playground]:
    context = browser.new_context(base_url=embedded_server.base_url)
    playground = Playground(context)
    yield playground
    context.close()
    assert playground.complaints == []


def undisturbed(server: EmbeddedStack) -> str:
    """The answer as a caller gets it who asks in one piece."""
    body = {"messages": [{"role": "user", "content": QUESTION}], **PARAMETERS, **WHOLE}
    answer = httpx.post(f"{server.base_url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def begin(playground: Playground) -> None:
    playground.set_parameters(**PARAMETERS)
    playground.send(QUESTION)
    playground.wait_for_event(SEEN)


def assert_whole(playground: Playground, expected: str) -> None:
    playground.wait_for_end()
    assert playground.stored_answer()["content"] == expected
    # What was drawn piece by piece is what is drawn at once.
    grown = playground.answer.locator(".markdown").inner_html()
    playground.reload()
    playground.wait_for_end()
    assert playground.answer.locator(".markdown").inner_html() == grown


def test_a_page_that_is_loaded_again_goes_on_behind_what_it_had(
    playground: Playground, embedded_server: EmbeddedStack
) -> None:
    begin(playground)
    playground.reload()
    expect(playground.resumes).to_have_text(re.compile(r"Page loaded again: last seen [\d,]+, resumed at [\d,]+\."))
    last, following = (
        int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d", playground.resumes.inner_text())
    )
    assert (following, last > 0) == (last + 1, True)
    assert_whole(playground, undisturbed(embedded_server))


def test_a_page_that_is_closed_and_opened_later_shows_the_rest(
    browser: Browser, embedded_server: EmbeddedStack
) -> None:
    context = browser.new_context(base_url=embedded_server.base_url)
    first = Playground(context)
    begin(first)
    chat = first.page.url
    first.page.close()
    second = Playground(context)
    second.page.goto(chat)
    second.reload()
    assert_whole(second, undisturbed(embedded_server))
    context.close()


def test_without_a_network_the_page_waits_and_goes_on(playground: Playground, embedded_server: EmbeddedStack) -> None:
    begin(playground)
    playground.page.context.set_offline(True)
    line = playground.line
    expect(line).to_have_attribute("data-is", re.compile("waiting|connecting"), timeout=15_000)
    expect(line).to_contain_text("Last seen")
    playground.page.context.set_offline(False)
    expect(playground.resumes).to_have_text(re.compile(r"Connection lost: last seen [\d,]+, resumed at [\d,]+\."))
    assert_whole(playground, undisturbed(embedded_server))


def test_a_server_that_is_killed_and_started_again_goes_on_with_the_same_text(
    browser: Browser, start_embedded: Callable[..., EmbeddedStack]
) -> None:
    server = start_embedded()
    expected = undisturbed(server)
    context = browser.new_context(base_url=server.base_url)
    playground = Playground(context)
    begin(playground)
    server.processes.pop("serve").kill()
    expect(playground.line).to_have_attribute("data-is", re.compile("waiting|connecting"))
    expect(playground.page.locator("#model-state")).to_have_attribute("data-is", "away", timeout=20_000)
    server.start()
    assert_whole(playground, expected)
    assert [resume["cause"] for resume in playground.stored_answer()["resumes"]] == ["lost"]
    assert server.query("SELECT attempt FROM sessions_app_chatsession ORDER BY created_at DESC LIMIT 1") == [(2,)]
    assert playground.complaints == []
    context.close()


def test_the_line_is_cut_before_ones_eyes_and_resumed_at_the_next_event(
    playground: Playground, embedded_server: EmbeddedStack
) -> None:
    begin(playground)
    playground.page.click("#line .cut")
    line = playground.line
    expect(line).to_contain_text("Line cut. Last seen:")
    last = int(re.sub(r"\D", "", re.findall(r"Last seen: ([\d,]+)", line.inner_text())[0]))
    # Nothing comes through a line that is cut.
    shown = playground.answer.locator(".markdown").inner_text()
    playground.page.wait_for_timeout(500)
    assert playground.answer.locator(".markdown").inner_text() == shown
    playground.page.click("#line .hurry")
    expect(playground.resumes).to_have_text(f"Line cut: last seen {last:,}, resumed at {last + 1:,}.")
    assert_whole(playground, undisturbed(embedded_server))


def test_a_line_that_is_cut_reconnects_by_itself(playground: Playground, embedded_server: EmbeddedStack) -> None:
    begin(playground)
    playground.page.click("#line .cut")
    expect(playground.resumes).to_contain_text(["Line cut"], timeout=15_000)
    assert_whole(playground, undisturbed(embedded_server))


def test_a_request_that_never_arrived_is_sent_again_and_runs_once(
    playground: Playground, embedded_server: EmbeddedStack
) -> None:
    playground.set_parameters(**PARAMETERS | {"max_tokens": 40, "min_tokens": 40})
    with playground.answering():
        playground.page.context.set_offline(True)
        playground.send(QUESTION)
        expect(playground.line).to_contain_text("Nothing seen yet")
        playground.page.context.set_offline(False)
    answer = playground.stored_answer()
    assert answer["state"] == "done"
    known = "SELECT state, attempt FROM sessions_app_chatsession WHERE id = ?"
    assert embedded_server.query(known, answer["sessionId"]) == [("completed", 1)]


def test_an_answer_whose_first_event_was_lost_is_found_by_its_id(
    playground: Playground, embedded_server: EmbeddedStack
) -> None:
    """The request arrived, and the page knows nothing of it."""
    playground.set_parameters(**PARAMETERS)
    playground.page.route("**/v1/chat/completions", lambda route: (route.fetch(timeout=0), route.abort())[1], times=1)
    playground.ask(QUESTION)
    assert_whole(playground, undisturbed(embedded_server))
    answer = playground.stored_answer()
    assert embedded_server.query("SELECT attempt FROM sessions_app_chatsession WHERE id = ?", answer["sessionId"]) == [
        (1,)
    ]


def test_an_answer_that_the_server_has_forgotten_is_an_error_that_says_so(
    playground: Playground, embedded_server: EmbeddedStack
) -> None:
    begin(playground)
    playground.page.context.set_offline(True)
    [session_id] = [answer["sessionId"] for answer in playground.stored()]
    embedded_server.query("UPDATE sessions_app_chatsession SET expired_at = created_at WHERE id = ?", session_id)
    playground.page.context.set_offline(False)
    expect(playground.answer.locator(".problem")).to_contain_text("The answer ended with an error")
    expect(playground.page.locator(".regenerate")).to_be_visible()


def test_two_tabs_show_the_same_answer(playground: Playground, embedded_server: EmbeddedStack) -> None:
    begin(playground)
    other = Playground(playground.page.context)
    other.page.goto(playground.page.url)
    other.reload()
    expected = undisturbed(embedded_server)
    for tab in (playground, other):
        assert_whole(tab, expected)
    assert other.complaints == []
