"""The review desk in a real browser: by keyboard, beside another reviewer, in both languages, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.live.barriers import barriers
from tests.live.pages import OpenPage, complaints_of, log_in
from tests.live.stack import EmbeddedStack

pytestmark = pytest.mark.browser

DESK = "/admin/ocr/review/"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


class Server:
    """A server with reviewers, and a queue that each test fills for itself."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self.run(("make_person", ["rina", "Reviewer"], {}), ("make_person", ["budi", "Reviewer"], {}))

    def run(self, *calls: tuple[str, list[Any], dict[str, Any]]) -> list[Any]:
        """Call functions of ``desk_cards`` in the server's settings."""
        said = self.stack.run_python(f"from tests.live.desk_cards import run\nrun({list(calls)!r})")
        found: list[Any] = json.loads(said)
        return found

    def fill(self, *cards: dict[str, Any]) -> list[str]:
        """An empty queue, and then these cards in it; their ids."""
        numbered = [("make_card", [number], card) for number, card in enumerate(cards, 1)]
        return self.run(("clear", [], {}), *numbered)[1:]

    def row(self, pk: str) -> dict[str, Any]:
        found: dict[str, Any] = self.run(("row_of", [pk], {}))[0]
        return found

    def kinds(self, pk: str) -> list[str]:
        lines = self.stack.query(
            "SELECT kind FROM ocr_ktpchange WHERE extraction_id = ? ORDER BY id", pk.replace("-", "")
        )
        return [kind for (kind,) in lines]


@pytest.fixture(scope="module")
def desk(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("desk"), tiny_model)
    try:
        yield Server(stack.start())
    finally:
        stack.stop()


class Reviewer:
    """Somebody at the desk, who counts the keys pressed besides typing."""

    def __init__(self, open_page: OpenPage, server: Server, name: str, **options: Any) -> None:
        self.page: Page = open_page(server.stack, **options)
        self.context: BrowserContext = self.page.context
        self.complaints = complaints_of(self.page)
        self.page.goto(f"/admin/login/?next={DESK}")
        log_in(self.page, name)
        self.presses = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.presses += 1
            self.page.keyboard.press(key)

    def type_over(self, text: str) -> None:
        """Another value in the focused field. Typing is not counted."""
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def open(self, pk: str) -> None:
        self.page.goto(f"{DESK}{pk}/")
        self.reveal()

    def reveal(self, key: str = "F3") -> None:
        """Show NIK and date of birth, where the card has some."""
        button = self.page.locator("button[name=_reveal]")
        if button.count():
            self.press(key)
            expect(button).to_be_hidden()

    @property
    def card(self) -> str:
        """The id of the card on the screen."""
        return urlsplit(self.page.url).path.removeprefix(DESK).strip("/")

    def decide(self, *keys: str) -> None:
        """Press keys of which the last one leads to another page."""
        *first, last = keys
        self.press(*first)
        with self.page.expect_navigation():
            self.press(last)

    def click(self, selector: str) -> None:
        """A button that leads to another page."""
        with self.page.expect_navigation():
            self.page.click(selector)

    @property
    def focused(self) -> str:
        """The name of the field that has the focus."""
        return str(self.page.evaluate("document.activeElement.name || document.activeElement.className"))


@pytest.fixture
def rina(open_page: OpenPage, desk: Server) -> Reviewer:
    return Reviewer(open_page, desk, "rina")


@pytest.fixture
def budi(open_page: OpenPage, desk: Server) -> Reviewer:
    return Reviewer(open_page, desk, "budi")


# --- By keyboard ---


def test_ten_cards_are_reviewed_by_keyboard_alone(desk: Server, rina: Reviewer) -> None:
    cards = desk.fill(*[{"uncertain": 2}] * 4, *[{"uncertain": 1}] * 2, *[{}] * 4)
    rina.page.goto(DESK)
    expect(rina.page.locator(".desk-counts")).to_have_text("10 waiting, 6 flagged")
    rina.decide("Enter")
    # The flagged ones come first. Two flags: both as printed.
    for card in cards[:2]:
        assert rina.card == card
        rina.presses = 0
        rina.reveal()
        rina.decide("F2", "F2", "Control+Enter")
        assert rina.presses <= 6
    # One value corrected, one flag confirmed.
    for card in cards[2:4]:
        assert rina.card == card
        rina.presses = 0
        rina.reveal()
        assert rina.focused == "nik"
        rina.type_over("3171990101900777")
        rina.decide("Enter", "F2", "Control+Enter")
        assert rina.presses <= 6
    # One flag, rejected and left to another.
    rina.presses = 0
    rina.decide("F9", "1", "Control+Enter")
    rina.decide("F8", "Control+Enter")
    assert rina.presses <= 6
    # Nothing is flagged: the key that approves shows NIK and date of birth first.
    for card in cards[6:]:
        assert rina.card == card
        rina.presses = 0
        rina.reveal("Control+Enter")
        rina.decide("Control+Enter")
        assert rina.presses == 2
    expect(rina.page.locator(".messagelist")).to_contain_text("No card waits for you.")
    reviews = [desk.row(card)["review"] for card in cards]
    assert reviews == ["approved"] * 4 + ["rejected", "needs_review"] + ["approved"] * 4
    assert desk.row(cards[2])["nik"] == "3171990101900777"
    assert desk.row(cards[4])["reject_reason"] == "blurred"
    assert desk.kinds(cards[5])[-1] == "unclear"
    # Nothing breaks, and no policy of the pages is broken.
    assert rina.complaints == []


def test_enter_decides_nothing_wherever_it_is_pressed(desk: Server, rina: Reviewer) -> None:
    (card,) = desk.fill({"uncertain": 1})
    for address in (f"{DESK}{card}/", f"/admin/ocr/ktpextraction/{card}/change/"):
        rina.page.goto(address)
        if "review" in address:
            rina.reveal()
        for name in ("nik", "nama", "agama", "berlaku_hingga"):
            rina.page.focus(f"input[name={name}]")
            rina.press("Enter")
        rina.page.focus("input[name=confirm]")
        rina.press("Enter")
        assert urlsplit(rina.page.url).path == address
    assert desk.row(card)["review"] == "needs_review"
    assert desk.kinds(card) == ["read", "opened"]


def test_enter_decides_nothing_without_javascript_and_on_a_failed_reading(desk: Server, open_page: OpenPage) -> None:
    read, failed = desk.fill({}, {"fails": True})
    reviewer = Reviewer(open_page, desk, "rina", java_script_enabled=False)
    for card in (read, failed):
        for address in (f"{DESK}{card}/", f"/admin/ocr/ktpextraction/{card}/change/"):
            reviewer.page.goto(address)
            for control in reviewer.page.locator("form input[type=text]:visible, form input[type=radio]:visible").all():
                control.focus()
                control.press("Enter")
            assert urlsplit(reviewer.page.url).path == address
        assert desk.row(card)["review"] == "needs_review"


def test_enter_and_tab_go_to_the_flagged_fields_first(desk: Server, rina: Reviewer) -> None:
    (card,) = desk.fill({"read": {"agama": "ISLAMM", "tgl_lahir": "99-99-9999"}})
    rina.open(card)
    visited = [rina.focused]
    for _ in range(3):
        rina.press("Enter")
        visited.append(rina.focused)
    assert visited == ["tgl_lahir", "agama", "nik", "nama"]
    rina.open(card)
    visited = [rina.focused]
    for _ in range(5):
        rina.press("Tab")
        visited.append(rina.focused)
    assert visited == ["tgl_lahir", "confirm", "agama", "confirm", "nik", "nama"]
    rina.press("Shift+Tab", "Shift+Tab")
    assert rina.focused == "confirm"


def test_no_key_of_the_desk_is_one_that_types(desk: Server, rina: Reviewer) -> None:
    (card,) = desk.fill({"uncertain": 1})
    rina.open(card)
    typed = "The quick brown fox, 0123456789 +-=[]?/ jumps OVER"
    rina.type_over(typed)
    expect(rina.page.locator("input[name=nik]")).to_have_value(typed)
    rina.press("F9")
    rina.page.focus("#desk-note")
    rina.type_over("12345 reasons")
    expect(rina.page.locator("#desk-note")).to_have_value("12345 reasons")
    assert rina.card == card and desk.row(card)["review"] == "needs_review"


def test_an_approval_asks_for_each_flag_and_for_values_that_are_none(desk: Server, rina: Reviewer) -> None:
    card, _ = desk.fill({"uncertain": 1}, {})
    rina.open(card)
    rina.press("Control+Enter")
    # The flag is asked about before anything is sent.
    expect(rina.page.locator(".desk-asked input[name=nik]")).to_be_focused()
    rina.type_over("abc")
    rina.decide("Control+Enter")
    # The server questions the new value.
    expect(rina.page.locator("[role=alert]:visible")).to_contain_text("answer each flag")
    expect(rina.page.locator("#flags-nik")).to_contain_text("A NIK has 16 digits.")
    assert desk.row(card) | {"nik": "abc", "review": "needs_review"} == desk.row(card)
    rina.decide("F2", "Control+Enter")
    assert desk.row(card)["review"] == "approved"


def test_a_rejection_needs_its_reason(desk: Server, rina: Reviewer) -> None:
    card, _ = desk.fill({}, {})
    rina.open(card)
    rina.press("F9")
    rina.decide("Control+Enter")
    expect(rina.page.locator("[role=alert]:visible")).to_contain_text("A reason is missing")
    assert desk.row(card)["review"] == "needs_review"
    # The panel is open again.
    rina.press("5")
    rina.page.keyboard.type("torn in two")
    rina.decide("Control+Enter")
    assert desk.row(card) | {"review": "rejected", "reject_reason": "other"} == desk.row(card)


def test_a_decision_is_undone_by_one_key_and_its_card_opens_again(desk: Server, rina: Reviewer) -> None:
    card, following = desk.fill({}, {})
    rina.open(card)
    rina.decide("Control+Enter")
    assert rina.card == following
    expect(rina.page.locator(".desk-undo")).to_contain_text("Approved")
    rina.decide("F4")
    assert rina.card == card
    assert desk.row(card)["review"] == "needs_review"
    assert desk.kinds(card)[-1] == "undone"


def test_a_log_in_that_ends_loses_nothing_that_was_typed(desk: Server, rina: Reviewer) -> None:
    card, _ = desk.fill({}, {})
    rina.open(card)
    rina.page.fill("input[name=nama]", "NAMA YANG DIKETIK")
    cookies = rina.context.cookies()
    rina.context.clear_cookies(name="sessionid")
    rina.press("Control+Enter")

    expect(rina.page.locator("#desk-log-in")).to_be_visible()
    expect(rina.page.locator("input[name=nama]")).to_have_value("NAMA YANG DIKETIK")
    assert desk.kinds(card) == ["read", "opened"]
    # Logged in again, in another tab.
    rina.context.add_cookies([cookie for cookie in cookies if cookie["name"] == "sessionid"])  # type: ignore[misc]
    rina.decide("Control+Enter")
    assert desk.row(card) | {"nama": "NAMA YANG DIKETIK", "review": "approved"} == desk.row(card)


# --- Beside another reviewer ---


def test_two_reviewers_never_get_the_same_card(desk: Server, rina: Reviewer, budi: Reviewer) -> None:
    cards = desk.fill(*[{}] * 4)
    for reviewer in (rina, budi):
        reviewer.page.goto(DESK)
        reviewer.decide("Enter")
    seen = [rina.card, budi.card]
    for reviewer in (rina, budi):
        reviewer.reveal()
        reviewer.decide("Control+Enter")
        seen.append(reviewer.card)
    assert sorted(seen) == sorted(cards)


def test_a_card_that_another_has_open_says_so(desk: Server, rina: Reviewer, budi: Reviewer) -> None:
    (card,) = desk.fill({})
    rina.open(card)
    budi.open(card)
    expect(budi.page.locator(".desk-fields")).to_contain_text("rina has this card open until")


def test_a_stale_save_shows_who_changed_what_and_lets_one_choose(desk: Server, rina: Reviewer, budi: Reviewer) -> None:
    (card,) = desk.fill({})
    for reviewer in (rina, budi):
        reviewer.open(card)
    budi.page.fill("input[name=nama]", "NAMA DARI BUDI")
    budi.page.fill("input[name=agama]", "KRISTEN")
    budi.click("button[name=_save]")
    rina.page.fill("input[name=nama]", "NAMA DARI RINA")
    rina.page.fill("input[name=pekerjaan]", "GURU")
    rina.decide("Control+Enter")

    conflict = rina.page.locator(".desk-stale")
    expect(conflict).to_contain_text("Somebody has changed this card")
    expect(conflict).to_contain_text("budi: Corrected, Name: SPECIMENTO UJIBACA → NAMA DARI BUDI")
    # Both values of the field that both have changed, theirs of the other, and what rina alone has typed.
    expect(rina.page.locator(".desk-clash")).to_contain_text("NAMA DARI RINA")
    expect(rina.page.locator("input[name=agama]")).to_have_value("KRISTEN")
    expect(rina.page.locator("input[name=pekerjaan]")).to_have_value("GURU")
    assert desk.row(card) | {"nama": "NAMA DARI BUDI", "review": "needs_review"} == desk.row(card)
    # Nothing is approved before a choice is made.
    rina.press("Control+Enter")
    expect(rina.page.locator(".desk-asked")).to_be_visible()
    rina.page.get_by_text("NAMA DARI RINA").click()
    rina.decide("Control+Enter")
    assert desk.row(card) | {"nama": "NAMA DARI RINA", "agama": "KRISTEN", "review": "approved"} == desk.row(card)


def test_saving_after_another_approved_says_so_and_stores_nothing(desk: Server, rina: Reviewer, budi: Reviewer) -> None:
    (card,) = desk.fill({})
    address = f"/admin/ocr/ktpextraction/{card}/change/"
    rina.page.goto(address)
    budi.open(card)
    budi.decide("Control+Enter")
    rina.page.fill("input[name=nama]", "TERLAMBAT")
    rina.click("input[name=_save]")
    expect(rina.page.locator(".desk-stale")).to_contain_text("budi: Approved")
    expect(rina.page.locator(".desk-fields")).to_contain_text("You typed: TERLAMBAT")
    assert desk.row(card)["nama"] == "SPECIMENTO UJIBACA"
    # It can be reopened, for a reason.
    rina.page.get_by_text("Reopen…").click()
    rina.page.fill("#desk-reopen", "the name is wrong")
    rina.decide("Control+Enter")
    assert desk.row(card)["review"] == "needs_review"
    expect(rina.page.locator("input[name=nama]")).to_be_editable()


# --- The picture ---


def transform(page: Page) -> str:
    return str(page.evaluate("document.querySelector('.desk-stage img').style.transform"))


def test_the_picture_is_zoomed_dragged_turned_and_fitted(desk: Server, rina: Reviewer) -> None:
    (card,) = desk.fill({})
    rina.open(card)
    page = rina.page
    expect(page.locator(".desk-tools")).to_be_visible()
    page.wait_for_function("document.querySelector('.desk-stage img').style.transform.includes('scale')")
    fitted = transform(page)
    box = page.locator(".desk-stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 150)
    page.mouse.wheel(0, -300)
    zoomed = transform(page)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 190)
    page.mouse.up()
    dragged = transform(page)
    page.get_by_role("button", name="Turn right").click()
    turned = transform(page)
    assert len({fitted, zoomed, dragged, turned}) == 4
    assert "rotate(90deg)" in turned
    # By keyboard: to the picture, turn it back, larger, and fit.
    rina.press("F6", "l", "+")
    assert transform(page) not in (fitted, turned)
    rina.press("0")
    assert transform(page) == fitted
    page.mouse.move(box["x"] + 200, box["y"] + 250)
    expect(page.locator(".desk-loupe")).to_be_visible()
    rina.press("m")
    expect(page.locator(".desk-loupe")).to_be_hidden()


@pytest.mark.parametrize("uncertain", [0, 2])
def test_the_card_is_on_one_screen(desk: Server, rina: Reviewer, uncertain: int) -> None:
    (card,) = desk.fill({"uncertain": uncertain})
    rina.open(card)
    for selector in ("input[name=nik]", "input[name=berlaku_hingga]", "button[name=_approve]", ".desk-stage img"):
        expect(rina.page.locator(selector)).to_be_in_viewport(ratio=1)
    sizes = rina.page.evaluate(
        "[document.documentElement, document.querySelector('.desk-fields')]"
        ".map(it => [it.scrollHeight - it.clientHeight, it.scrollWidth - it.clientWidth])"
    )
    assert sizes == [[0, 0], [0, 0]]


def test_an_uncertain_digit_is_named_and_underlined(desk: Server, rina: Reviewer) -> None:
    (card,) = desk.fill({"uncertain": 1})
    rina.open(card)
    expect(rina.page.locator("#flags-nik")).to_contain_text("Digit 13 may be 0 or 5.")
    expect(rina.page.locator("#flags-nik u")).to_have_text("0")


# --- Everybody ---


@pytest.mark.parametrize(
    ("viewport", "scheme", "language"),
    [(DESKTOP, "light", "en"), (PHONE, "dark", "id")],
    ids=["desktop-light-en", "phone-dark-id"],
)
def test_no_page_of_the_desk_has_a_barrier(
    desk: Server, open_page: OpenPage, viewport: Any, scheme: Any, language: str
) -> None:
    flagged, stale, decided, failed = desk.fill(
        {"uncertain": 2, "read": {"agama": "ISLAMM"}}, {"uncertain": 1}, {"decided": "rina"}, {"fails": True}
    )
    options = {"viewport": viewport, "color_scheme": scheme, "locale": {"en": "en-US", "id": "id-ID"}[language]}
    rina = Reviewer(open_page, desk, "rina", **options)
    page = rina.page

    def check(what: str) -> None:
        assert barriers(page) == [], what
        assert page.evaluate("document.documentElement.lang") == language
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), what

    page.goto(DESK)
    check("queue")
    for name, pk in (("flagged", flagged), ("decided", decided), ("failed", failed)):
        rina.open(pk)
        check(name)
    rina.open(flagged)
    for key in ("F1", "F8", "F9"):
        rina.press(key)
        check(f"panel {key}")
    rina.open(stale)
    page.evaluate("document.querySelector('input[name=nama]').value = 'DARI SAYA'")
    desk.run(("correct", [stale, "budi", {"nama": "DARI DIA"}], {}))
    rina.click("button[name=_save]")
    check("stale")
    page.goto(f"{DESK}accuracy/")
    check("accuracy")
    page.goto(f"/admin/ocr/ktpextraction/{flagged}/change/")
    check("plain form")
