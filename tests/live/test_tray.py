"""The clerk's tray in a real browser, with the reader that the repository brings."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from ocr.specimens.folder import write_specimens
from tests.live.barriers import barriers
from tests.live.pages import PASSWORD, OpenPage, complaints_of, log_in
from tests.live.stack import ROOT, EmbeddedStack
from tests.media_samples import heic_bytes, image_bytes, pdf_bytes

pytestmark = pytest.mark.browser

READ_MILLISECONDS = 60_000
PHONES = [320, 390]
#: what a drop of files is for a page
DROP = """files => {
    const data = new DataTransfer();
    for (const {name, type, content} of files)
        data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name, {type}));
    const event = kind => kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
        : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
    document.dispatchEvent(event(window.howToGive));
}"""

#: of the element that has the focus: its middle is not behind another
IS_ON_TOP = """() => {
    const box = document.activeElement.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return document.activeElement.contains(top) || !!top?.closest("label")?.contains(document.activeElement);
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    reader = ROOT / "models" / "ktp-reader"
    folder = tmp_path_factory.mktemp("tray")
    stack = EmbeddedStack(folder, reader, OCR_MAX_TOKENS=500, TORCH_DTYPE="float32", TIME_ZONE="Asia/Jakarta")
    try:
        stack.start()
        stack.run_python(
            "import django; django.setup()\n"
            "from django.contrib.auth.models import Group, User\n"
            f"clerk = User.objects.create_user('clerk', password='{PASSWORD}')\n"
            "clerk.groups.add(Group.objects.get(name='Clerk'))\n"
        )
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty specimens, scanned flat."""
    folder = tmp_path_factory.mktemp("cards")
    for _ in write_specimens(folder, count=20, seed=1123, conditions=["flat"]):
        pass
    return sorted(folder.glob("*.jpg"))


@pytest.fixture(scope="module")
def labels(cards: list[Path]) -> dict[str, dict[str, Any]]:
    """What stands on each, by the name of its file."""
    lines = (cards[0].parent / "labels.jsonl").read_text().splitlines()
    return {entry["file"]: entry for entry in map(json.loads, lines)}


@pytest.fixture
def page(open_page: OpenPage, server: EmbeddedStack) -> Iterator[Page]:
    """The tray, where whatever breaks the policy of the pages, and every other error of a script, fails the test."""
    page = open_page(server)
    complaints = complaints_of(page, of_refusals=False)
    page.goto("/ocr/")
    log_in(page, "clerk")
    yield page
    assert complaints == []


def give(page: Page, *files: Path | tuple[str, bytes], how: str = "drop") -> None:
    """Drop or paste files."""
    expect(page.locator("html.scripted")).to_be_attached()
    named = [(file.name, file.read_bytes()) if isinstance(file, Path) else file for file in files]
    types = {"jpg": "image/jpeg", "png": "image/png", "pdf": "application/pdf", "svg": "image/svg+xml"}
    given = [
        {
            "name": name,
            # Windows and Android name no type for HEIC.
            "type": types.get(name.rpartition(".")[2], ""),
            "content": base64.b64encode(data).decode(),
        }
        for name, data in named
    ]
    page.evaluate("how => { window.howToGive = how; }", how)
    page.evaluate(DROP, given)


def wait_until_read(page: Page, count: int) -> None:
    expect(page.locator("#tray-summary")).to_have_text(f"{count} of {count} read", timeout=READ_MILLISECONDS)


def item(page: Page, name: str) -> Any:
    return page.locator(".tray-item", has_text=name)


def log_everybody_out(server: EmbeddedStack) -> None:
    server.query("DELETE FROM django_session")


# --- Sending ---


def test_twenty_cards_are_dropped_at_once_and_all_are_read(
    page: Page, server: EmbeddedStack, cards: list[Path], labels: dict[str, dict[str, Any]]
) -> None:
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if request.url.endswith("/events/") else None)
    give(page, *cards)
    expect(page.locator(".tray-item")).to_have_count(20)
    expect(page.locator(".tray-item .live").first).not_to_be_empty(timeout=READ_MILLISECONDS)
    wait_until_read(page, 20)
    assert page.locator("#tray [data-outcome=read]").count() == 20
    assert len(streams) > 0
    for card in cards[:3]:
        nik = labels[card.name]["fields"]["nik"]
        expect(item(page, card.name)).to_contain_text(f"{nik[:6]}••••••{nik[-4:]}")
    assert not any("/v1/" in url for url in streams), "not by the address that asks for a key"


def test_more_than_twenty_are_not_taken_and_it_is_said(page: Page, cards: list[Path]) -> None:
    page.route("**/ocr/", lambda route: None if route.request.method == "POST" else route.continue_())
    give(page, *cards, *cards[:5])
    expect(page.locator(".tray-item")).to_have_count(20)
    expect(page.locator("#image-errors")).to_contain_text("20 files at a time. 5 were left out")


def test_files_are_looked_at_before_they_are_sent(page: Page, cards: list[Path]) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.evaluate("document.getElementById('tray-form').dataset.maxBytes")
    give(page, ("notes.txt", b"text"), ("empty.jpg", b""), ("drawing.svg", b"<svg/>"))
    expect(item(page, "notes.txt")).to_contain_text("This file is not a picture. Choose")
    expect(item(page, "empty.jpg")).to_contain_text("The file is empty. Choose it again")
    expect(item(page, "drawing.svg")).to_contain_text("This file is not a picture. Choose")
    item(page, "notes.txt").get_by_role("button", name="Remove").click()
    expect(page.locator(".tray-item")).to_have_count(2)
    assert sent == []


def test_what_the_server_refuses_says_what_to_do(page: Page) -> None:
    give(page, ("broken.jpg", image_bytes((400, 300), format="JPEG")[:400]))
    expect(item(page, "broken.jpg").get_by_role("alert")).to_contain_text(
        "damaged, or too large to read. Take a new one"
    )
    expect(item(page, "broken.jpg").get_by_role("button", name="Send again")).to_be_hidden()


def test_a_card_is_taken_as_a_phone_has_it_and_as_it_is_pasted(page: Page, cards: list[Path]) -> None:
    give(page, ("IMG_0001.HEIC", heic_bytes(Image.open(cards[0]).convert("RGB"), tile=512)))
    wait_until_read(page, 1)
    # Chromium cannot show it; the server's picture stands there.
    expect(item(page, "IMG_0001.HEIC").locator("img")).to_be_visible()
    give(page, cards[1], how="paste")
    wait_until_read(page, 2)


def test_another_page_of_a_scan_is_read_on_demand(page: Page, cards: list[Path]) -> None:
    sheet = Image.new("RGB", (1240, 1754), "white")
    give(page, ("scan.pdf", pdf_bytes(sheet, Image.open(cards[2]).convert("RGB"))))
    first = page.locator(".tray-item").first
    expect(first.locator("[data-outcome=nothing]")).to_be_visible(timeout=READ_MILLISECONDS)
    expect(first.locator(".of")).to_have_text("of 2")
    first.get_by_label("Page").fill("2")
    first.get_by_role("button", name="Read this page").click()
    expect(page.locator(".tray-item").nth(1).locator("[data-outcome=read]")).to_be_visible(timeout=READ_MILLISECONDS)


def test_one_that_waits_is_taken_back_and_the_others_go_on(page: Page, cards: list[Path]) -> None:
    page.route("**/ocr/", lambda route: None if route.request.method == "POST" else route.continue_())
    give(page, *cards[:4])
    item(page, cards[3].name).get_by_role("button", name="Cancel").click()
    expect(page.locator(".tray-item")).to_have_count(3)
    # Two hang on their way; the third is sent when one of them is given up.
    with page.expect_request(lambda request: request.method == "POST"):
        item(page, cards[0].name).get_by_role("button", name="Cancel").click()
    expect(page.locator(".tray-item")).to_have_count(2)
    expect(page.locator("#tray-summary")).to_have_text("0 of 2 read")


def test_a_card_on_its_side_is_turned_and_then_read_right(
    page: Page, cards: list[Path], labels: dict[str, dict[str, Any]]
) -> None:
    turned = io.BytesIO()
    Image.open(cards[4]).transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=95)
    give(page, ("sideways.jpg", turned.getvalue()))
    wait_until_read(page, 1)
    row = item(page, "sideways.jpg")
    expect(row).to_contain_text("Does the card lie on its side?")
    row.get_by_role("button", name="Turn right and read again").click()
    nik = labels[cards[4].name]["fields"]["nik"]
    expect(row).to_contain_text(f"{nik[:6]}••••••{nik[-4:]}", timeout=READ_MILLISECONDS)
    expect(row).not_to_contain_text("Does the card lie on its side?")


# --- One reading ---


def open_reading(page: Page, card: Path) -> None:
    give(page, card)
    wait_until_read(page, 1)
    page.locator("#tray").get_by_role("link", name="Check").click()
    expect(page.locator("#values")).to_be_visible()


def test_a_value_is_checked_while_it_is_typed_and_a_suggestion_is_taken(page: Page, cards: list[Path]) -> None:
    open_reading(page, cards[6])
    page.fill("#id_agama", "ISLM")
    notes = page.locator("#notes-agama")
    expect(notes).to_contain_text("Not a religion or belief that cards usually print.")
    notes.get_by_role("button", name="ISLAM").click()
    expect(page.locator("#id_agama")).to_have_value("ISLAM")
    expect(notes).not_to_contain_text("Not a religion")
    page.get_by_role("button", name="Show NIK and date of birth").click()
    page.fill("#id_nik", "12")
    expect(page.locator("#field-nik")).to_have_class("row error")


def test_a_reading_is_checked_and_sent_by_keyboard_alone(page: Page, server: EmbeddedStack, cards: list[Path]) -> None:
    give(page, cards[7])
    wait_until_read(page, 1)
    tab_to(page, "a.button.primary")
    page.keyboard.press("Enter")
    expect(page.locator("#values")).to_be_visible()
    tab_to(page, "#id_nama")
    page.keyboard.press("Control+a")
    page.keyboard.type("SITI AMINAH")
    for _ in range(page.locator("#values input[name=confirm]").count()):
        tab_to(page, "#values input[name=confirm]:not(:checked)")
        page.keyboard.press("Space")
    tab_to(page, "button[value=send]")
    page.keyboard.press("Enter")
    expect(page.locator(".messages")).to_contain_text("The card was sent for review.")
    said = server.run_python("from tests.live.desk_cards import run\nrun([('newest_name_sent', [], {})])")
    assert json.loads(said) == ["SITI AMINAH"]


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", "the focus is seen"
            assert page.evaluate(IS_ON_TOP), "nothing covers what has the focus"
            return
    raise AssertionError(f"Tab never comes to {selector}")


# --- Log-ins that end ---


def test_files_wait_for_the_log_in_to_come_back(page: Page, server: EmbeddedStack, cards: list[Path]) -> None:
    log_everybody_out(server)
    give(page, *cards[8:11])
    expect(page.locator("#log-in-again")).to_be_visible()
    expect(item(page, cards[8].name)).to_contain_text("waits for your log-in")
    # Coming back without having logged in sends no file again.
    with page.expect_response(lambda answer: "/progress/" in answer.url and answer.status == 401):
        page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator("#log-in-again")).to_be_visible()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Log in in a new tab").click()
    log_in(opened.value, "clerk")
    expect(opened.value.locator("h1")).to_have_text("Read cards")
    page.bring_to_front()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    wait_until_read(page, 3)
    expect(page.locator("#log-in-again")).to_be_hidden()


def test_what_was_typed_waits_for_the_log_in_to_come_back(page: Page, server: EmbeddedStack, cards: list[Path]) -> None:
    open_reading(page, cards[11])
    log_everybody_out(server)
    page.fill("#id_nama", "SITI AMINAH")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#log-in-again")).to_be_visible()
    expect(page.locator("#id_nama")).to_have_value("SITI AMINAH")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Log in in a new tab").click()
    log_in(opened.value, "clerk")
    expect(opened.value.locator("h1")).to_have_text("Read cards")
    page.bring_to_front()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messages")).to_contain_text("Saved.")
    expect(page.locator("#id_nama")).to_have_value("SITI AMINAH")


# --- Phones, languages, no JavaScript, barriers ---


@pytest.mark.parametrize("width", PHONES)
def test_on_a_phone_nothing_is_cut_off_and_the_card_stays_in_view(
    open_page: OpenPage, server: EmbeddedStack, cards: list[Path], width: int
) -> None:
    page = open_page(server, viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True)
    page.goto("/ocr/")
    log_in(page, "clerk")
    expect(page.get_by_role("button", name="Take a photograph")).to_be_visible()
    give(page, cards[12])
    wait_until_read(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#tray").get_by_role("link", name="Check").click()
    page.get_by_role("button", name="Show NIK and date of birth").click()
    # The page is loaded anew, and only then has an input for the NIK.
    expect(page.locator("#id_nik")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for column in ("nik", "agama", "berlaku_hingga"):
        page.focus(f"#id_{column}")
        card, field = page.locator(".card-image img").bounding_box(), page.locator(f"#id_{column}").bounding_box()
        assert card is not None and field is not None
        assert card["y"] >= 0 and card["y"] + card["height"] <= field["y"], column
        assert field["y"] + field["height"] <= 800, column


@pytest.mark.parametrize(
    ("locale", "heading", "read", "check"),
    [("id-ID", "Baca KTP", "1 dari 1 terbaca", "Periksa"), ("en-GB", "Read cards", "1 of 1 read", "Check")],
)
def test_the_tray_speaks_one_language(
    open_page: OpenPage, server: EmbeddedStack, cards: list[Path], locale: str, heading: str, read: str, check: str
) -> None:
    page = open_page(server, locale=locale)
    page.goto("/ocr/")
    log_in(page, "clerk")
    expect(page.locator("h1")).to_have_text(heading)
    give(page, cards[13])
    expect(page.locator("#tray-summary")).to_have_text(read, timeout=READ_MILLISECONDS)
    page.locator("#tray").get_by_role("link", name=check).click()
    others = {"id-ID": ("Send for review", "Save"), "en-GB": ("Kirim untuk ditinjau", "Simpan")}[locale]
    for text in others:
        expect(page.get_by_role("button", name=text, exact=True)).to_have_count(0)


def test_without_javascript_a_card_is_sent_turned_corrected_and_sent_for_review(
    open_page: OpenPage, server: EmbeddedStack, cards: list[Path]
) -> None:
    page = open_page(server, java_script_enabled=False)
    page.goto("/ocr/")
    log_in(page, "clerk")
    page.set_input_files("input[type=file]", cards[14])
    page.get_by_role("button", name="Read", exact=True).click()
    look_until(page, "#values, [data-outcome]")
    page.get_by_role("button", name="Turn right and read again").click()
    look_until(page, "#values, button[value='0']")
    page.get_by_role("button", name="Turn left and read again").click()
    look_until(page, "#values")
    page.fill("#id_nama", "SITI AMINAH")
    for tick in page.locator("input[name=confirm]").all():
        tick.check()
    page.get_by_role("button", name="Send for review").click()
    if page.locator("#values").count():
        # The corrected name may have brought a flag of its own.
        for tick in page.locator("input[name=confirm]").all():
            tick.check()
        page.get_by_role("button", name="Send for review").click()
    expect(page.locator(".messages")).to_contain_text("The card was sent for review.")


def look_until(page: Page, selector: str) -> None:
    for _ in range(100):
        if page.locator(selector).count():
            return
        page.wait_for_timeout(200)
        page.get_by_role("link", name="Look again").click()
    raise AssertionError(f"{selector} never comes")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_there_are_no_barriers_on_any_page_in_any_state(
    open_page: OpenPage, server: EmbeddedStack, cards: list[Path], scheme: Any
) -> None:
    page = open_page(server, color_scheme=scheme)
    page.goto("/ocr/")
    log_in(page, "clerk")
    assert barriers(page) == []
    give(page, cards[15], ("photo.jpg", image_bytes((300, 400), color="green", format="JPEG")), ("a.txt", b"x"))
    expect(page.locator("#tray .reading").first).to_be_visible()
    assert barriers(page) == []
    wait_until_read(page, 2)
    assert barriers(page) == []
    page.evaluate("document.getElementById('log-in-again').hidden = false")
    assert barriers(page) == []
    page.evaluate("document.getElementById('log-in-again').hidden = true")
    links = page.locator("#tray .actions a").all()
    addresses = [link.get_attribute("href") or "" for link in links]
    for address in addresses:
        page.goto(address)
        assert barriers(page) == []
    page.goto(addresses[0])
    page.fill("#id_agama", "ISLM")
    expect(page.locator("#notes-agama")).to_contain_text("Not a religion")
    assert barriers(page) == []
    reading = addresses[0].strip("/").rsplit("/", 1)[1].replace("-", "")
    for state in (
        "submitted_at = created_at",
        "review = 'approved', reviewed_at = created_at",
        "review = 'rejected', reject_reason = 'blurred'",
        "review = 'needs_review', reviewed_at = NULL, submitted_at = NULL, state = 'failed'",
    ):
        server.query(f"UPDATE ocr_ktpextraction SET {state} WHERE id = ?", reading)  # noqa: S608  (constants)
        page.goto(addresses[0])
        assert barriers(page) == [], state
