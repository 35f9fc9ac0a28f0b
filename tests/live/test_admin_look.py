"""Every page of the admin on a desk and on phones, light and dark: whole, readable, and fit for keyboard and finger."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.live.barriers import barriers
from tests.live.fitting import cut_parts, small_targets
from tests.live.pages import OpenPage, complaints_of, log_in
from tests.live.stack import EmbeddedStack

pytestmark = pytest.mark.browser

MIN_PIXELS = 40
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SMALL_PHONE = {"width": 320, "height": 640}
WINDOWS = [DESK, PHONE, SMALL_PHONE]


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("admin"), tiny_model, TIME_ZONE="Asia/Jakarta")
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def addresses(server: EmbeddedStack) -> list[str]:
    said = server.run_python("import json\nfrom tests.live.admin_rows import fill\nprint(json.dumps(fill()))")
    return [f"/admin/{address}" for address in json.loads(said)]


def operators_page(open_page: OpenPage, server: EmbeddedStack, **options: Any) -> Page:
    page = open_page(server, **options)
    page.goto("/admin/")
    log_in(page, "operator")
    page.wait_for_selector("#user-tools", state="attached")
    return page


def _without_djangos(found: tuple[str, list[str]]) -> tuple[str, list[str]]:
    """Django's script for the two lists of permissions gives a name to a span, which has no role."""
    address, problems = found
    return address, [one for one in problems if "help-tooltip search-label-icon" not in one]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window["width"])
def test_every_page_fits_its_window(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str], window: Any
) -> None:
    login = open_page(server, viewport=window)
    login.goto("/admin/login/")
    cut = {"log-in": cut_parts(login)}
    page = operators_page(open_page, server, viewport=window)
    for address in addresses:
        page.goto(address)
        cut[address] = cut_parts(page)
    assert {address: parts for address, parts in cut.items() if parts} == {}


def test_a_finger_hits_what_is_pressed_on_a_phone(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, viewport=PHONE, has_touch=True, is_mobile=True)
    small = {}
    for address in addresses:
        page.goto(address)
        small[address] = small_targets(page, MIN_PIXELS)
    assert {address: targets for address, targets in small.items() if targets} == {}


@pytest.mark.parametrize(("window", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"])
def test_no_page_has_barriers(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str], window: Any, scheme: Any
) -> None:
    """Without an ear for the policy: axe styles elements while it looks, which the policy refuses."""
    login = open_page(server, viewport=window, color_scheme=scheme)
    login.goto("/admin/login/")
    found = {"log-in": barriers(login)}
    page = operators_page(open_page, server, viewport=window, color_scheme=scheme)
    for address in addresses:
        page.goto(address)
        found[address] = barriers(page)
    for button in (".account-button", ".filter-button"):
        page.goto("/admin/inference/modelworker/")
        page.click(button)
        found[button] = barriers(page)
    assert {address: problems for address, problems in map(_without_djangos, found.items()) if problems} == {}


def test_no_page_breaks_its_policy(open_page: OpenPage, server: EmbeddedStack, addresses: list[str]) -> None:
    page = operators_page(open_page, server)
    complaints = complaints_of(page, of_refusals=False)
    for address in addresses:
        page.goto(address)
    assert complaints == []


def test_a_phone_shows_rows_as_cards_that_name_their_values(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, viewport=PHONE)
    page.goto("/admin/inference/modelworker/")
    card = page.locator("#result_list tbody tr", has_text="does not fit")
    cell = card.locator("td.field-model")
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Model"'
    assert card.evaluate("row => getComputedStyle(row).display") == "block"
    expect(page.locator("#result_list thead")).to_be_hidden()


def test_filters_are_a_drawer_that_needs_no_script(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, viewport=PHONE, java_script_enabled=False)
    page.goto("/admin/inference/modelworker/")
    drawer = page.locator("#changelist-filter")
    expect(drawer).to_be_hidden()
    page.click(".filter-button")
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    page.click(".filter-button")
    drawer.get_by_role("link", name="Loading").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator(".filter-clear")).to_be_visible()


def test_on_a_wide_screen_the_filters_are_beside_the_list(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, viewport={"width": 1600, "height": 900})
    page.goto("/admin/inference/modelworker/")
    expect(page.locator("#changelist-filter")).to_be_visible()
    expect(page.locator(".filter-button")).to_be_hidden()
    assert cut_parts(page) == []


def test_the_menu_of_a_phone_leads_to_every_list(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, viewport=SMALL_PHONE)
    expect(page.locator("#site-menu")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.locator("#site-menu").get_by_role("link", name="Workers").click()
    expect(page.locator("h1")).to_have_text("Workers")


def test_the_focus_goes_from_the_top_to_the_bottom_and_into_what_was_opened(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server)
    page.goto("/admin/inference/modelworker/")
    tops, names = [], []
    for _ in range(15):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(e => [e.getBoundingClientRect().top, e.id || e.textContent.trim()])(document.activeElement)"
        )
        tops.append(focused[0])
        names.append(focused[1])
    assert names[:3] == ["Skip to main content", "Sambung", "Now"]
    # Within a line, what is pressed may be higher or lower by a few pixels.
    assert all(later >= earlier - 12 for earlier, later in itertools.pairwise(tops)), list(
        zip(names, tops, strict=True)
    )
    page.focus(".filter-button")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#changelist-filter') !== null")


def test_a_theme_that_is_chosen_goes_before_the_browsers(
    open_page: OpenPage, server: EmbeddedStack, addresses: list[str]
) -> None:
    page = operators_page(open_page, server, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click(".account-button")
    for theme in ("dark", "light"):
        for _ in range(3):
            if page.get_attribute("html", "data-theme") != theme:
                page.click("#user-tools .theme-toggle")
        page.goto("/admin/auth/user/")
        expect(page.locator(f"html[data-theme={theme}]")).to_be_attached()
        assert (page.evaluate(ground) == light) == (theme == "light")
        page.click(".account-button")
