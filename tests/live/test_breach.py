"""After a leak, in a real browser: a card that a reviewer has revealed, and that is erased since, is still named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.live.pages import OpenPage, complaints_of, log_in
from tests.live.stack import EmbeddedStack
from tests.live.test_review_desk import DESK, DESKTOP, Server

pytestmark = pytest.mark.browser

LOG, BREACH, PERSON = "/admin/ocr/audit/", "/admin/ocr/audit/breach/", "/admin/ocr/person/"


@pytest.fixture(scope="module")
def desk(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("auditor"), tiny_model)
    try:
        yield Server(stack.start())
    finally:
        stack.stop()


def test_what_a_reviewer_revealed_is_found_after_the_card_is_erased(
    desk: Server, open_page: OpenPage, tmp_path: Path
) -> None:
    card, other = desk.fill({}, {})
    desk.run(("make_person", ["ani", "Auditor"], {}))
    # A reviewer has looked at the card.
    rina = open_page(desk.stack, viewport=DESKTOP)
    rina.goto(f"/admin/login/?next={DESK}")
    log_in(rina, "rina")
    rina.goto(f"{DESK}{card}/")
    assert rina.locator("input[name=nik]").count() == 0
    rina.keyboard.press("F3")
    nik = rina.locator("input[name=nik]").input_value()

    ani = open_page(desk.stack, viewport=DESKTOP)
    complaints = complaints_of(ani)
    ani.goto(f"/admin/login/?next={PERSON}")
    log_in(ani, "ani")
    # Find the person, and give a copy.
    ani.goto(PERSON)
    ani.fill("input[name=nik]", nik)
    ani.keyboard.press("Enter")
    expect(ani.get_by_role("button", name="Export as JSON")).to_be_visible()
    assert nik not in ani.content()
    with ani.expect_download() as download:
        ani.get_by_role("button", name="Export as JSON").click()
    copy = tmp_path / "copy.json"
    download.value.save_as(copy)
    assert nik in copy.read_text() and card in copy.read_text()
    # Erase it.
    ani.get_by_role("button", name="Erase…").click()
    ani.get_by_label("Reason:").select_option(index=1)
    ani.get_by_label("How many readings are erased:").fill("1")
    ani.get_by_role("button", name="Erase 1 reading permanently").click()
    expect(ani.locator("#content")).to_contain_text("1 reading is erased.")
    # The log has all of it, about a card that is gone.
    ani.goto(f"{LOG}?card={card}")
    actions = [row.inner_text() for row in ani.locator(".desk-table tbody tr td:nth-child(4)").all()]
    assert actions[:2] == ["Erased", "Exported"] and "Revealed masked values" in actions
    # Whom the reviewer's account may have cost.
    ani.goto(f"{BREACH}?who=rina&since=2020-01-01T00:00&until=2100-01-01T00:00")
    row = ani.locator("tr", has_text=card)
    expect(row).to_contain_text("yes")
    expect(row).to_contain_text("erased")
    assert nik not in ani.content()
    assert complaints == []

    said = json.loads(desk.stack.manage("audit", "verify", "--json"))
    assert said | {"findings": [], "triggers": True, "unsealed": 0} == said
    assert other not in copy.read_text()
