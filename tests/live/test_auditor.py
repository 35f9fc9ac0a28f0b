"""An auditor in a real browser: find a person, take a copy, freeze, erase, keep the receipt, and verify it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.ktp_card import CARD
from tests.live.pages import OpenPage, complaints_of, log_in
from tests.live.stack import EmbeddedStack

pytestmark = pytest.mark.browser

PERSON = "/admin/ocr/person/"


def run(stack: EmbeddedStack, *calls: tuple[str, list[Any], dict[str, Any]]) -> list[Any]:
    said = stack.run_python(f"from tests.live.desk_cards import run\nrun({list(calls)!r})")
    found: list[Any] = json.loads(said)
    return found


def test_an_auditors_walk(start_embedded: Callable[..., EmbeddedStack], open_page: OpenPage, tmp_path: Path) -> None:
    stack = start_embedded()
    nik = {"read": {"nik": CARD["nik"]}}
    _, first, second, other = run(
        stack,
        ("make_person", ["ayu", "Auditor"], {}),
        ("make_card", [1], nik),
        ("make_card", [2], nik),
        ("make_card", [3], {}),
    )
    page = open_page(stack, accept_downloads=True)
    complaints = complaints_of(page)
    page.goto(f"/admin/login/?next={PERSON}")
    log_in(page, "ayu")

    page.fill("[name=nik]", CARD["nik"])
    page.fill("[name=reference]", "PDP-12")
    page.press("[name=reference]", "Enter")
    expect(page.locator(".person-table tbody tr")).to_have_count(2)
    assert CARD["nik"] not in page.url + page.content()

    with page.expect_download() as copied:
        page.click("[name=format][value=json]")
    copy = json.loads(copied.value.path().read_text())
    assert {held["reading"]["id"] for held in copy["readings"]} == {first, second}
    assert CARD["nik"] not in copied.value.suggested_filename

    page.uncheck(f"#reading-{second}")
    page.fill("[name=reason]", "Police report 7")
    page.click("[name=freeze]")
    expect(page.locator(".person-table")).to_contain_text("Police report 7")
    page.check(f"#reading-{second}")
    page.click(".person-danger")
    expect(page.locator("[role=alert]")).to_contain_text(first)
    page.click("text=Back to the readings")
    page.uncheck(f"#reading-{first}")
    page.click(".person-danger")
    page.fill("[name=count]", "1")
    page.click(".person-danger")
    expect(page.locator("[role=status]")).to_contain_text("1 reading is erased.")
    with page.expect_download() as kept:
        page.click("[name=format][value=json]")
    receipt = tmp_path / "receipt.json"
    kept.value.save_as(receipt)
    assert json.loads(receipt.read_text())["readings"] == [second]

    page.goto(f"{PERSON}verify/")
    page.set_input_files("[name=file]", receipt)
    page.click(".person-main")
    expect(page.locator("[role=status]")).to_contain_text("genuine")
    left = {pk.replace("-", "") for pk in (first, other)}
    assert {pk for (pk,) in stack.query("SELECT id FROM ocr_ktpextraction")} == left
    assert complaints == []
    log = {action for (action,) in stack.query("SELECT DISTINCT action FROM ocr_auditentry WHERE actor_name = 'ayu'")}
    assert {"searched", "exported", "frozen", "erased"} <= log
    assert "The audit log is whole." in stack.manage("audit", "verify")
