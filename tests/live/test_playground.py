"""The chat page at ``/``: what it shows, what it sends, and what it never does with what a model says."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, expect

from tests.db.scripted_upstream import DONE, chunk
from tests.live.barriers import barriers
from tests.live.playground import Playground
from tests.live.stack import EmbeddedStack
from tests.live.test_upstream import Front
from tests.media_samples import image_bytes, video_bytes

pytestmark = pytest.mark.browser
KEY = "key-of-the-playground-0123456789"
SCRIPT_BUDGET = 100_000


class Speaker(ThreadingHTTPServer):
    """An OpenAI-compatible server that answers every chat with ``events``, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Speech)
        self.events: list[str] = []
        self.requests: list[dict[str, Any]] = []
        #: set for the rest of an answer to come
        self.may_end = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, *texts: str, reasoning_content: str = "") -> None:
        said = [chunk(reasoning_content=reasoning_content)] if reasoning_content else []
        self.events = [*said, *(chunk(text) for text in texts), chunk(finish="stop", usage=(3, 7)), DONE]
        self.may_end.set()


class Speech(BaseHTTPRequestHandler):
    server: Speaker

    def do_GET(self) -> None:
        self.answer("application/json", json.dumps({"data": [{"id": "speaker", "owned_by": "vllm"}]}))

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer("text/event-stream", *self.server.events)

    def answer(self, kind: str, *pieces: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        for piece in pieces[:-2]:
            self.wfile.write(piece.encode())
            self.wfile.flush()
        if kind == "text/event-stream":
            self.server.may_end.wait(30)
        self.wfile.write("".join(pieces[-2:]).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def speaker() -> Iterator[Speaker]:
    server = Speaker()
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.may_end.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def front(speaker: Speaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A server whose model says what the test has written for it."""
    stack = Front(tmp_path_factory.mktemp("front"), speaker)  # type: ignore[arg-type]
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture
def context(browser: Browser, front: Front) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=front.base_url)
    yield context
    context.close()


@pytest.fixture
def playground(context: BrowserContext, front: Front) -> Iterator[Playground]:
    """A tab that fails its test for every complaint, and for every request to anywhere else."""
    playground = Playground(context)
    strange: list[str] = []
    own = (front.base_url, "data:", "blob:")
    playground.page.on("request", lambda request: None if request.url.startswith(own) else strange.append(request.url))
    yield playground
    assert playground.complaints == []
    assert strange == []


HOSTILE = """\
<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 2"> <svg onload="window.hacked = 3">
<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>

[click](javascript:window.hacked=5) [click](JaVaScRiPt:window.hacked=6) [click](java&#115;cript:window.hacked=7)
[click](data:text/html,<script>opener.hacked=8</script>) [click](<javascript:window.hacked=9>)
<javascript:window.hacked=10> [click]( javascript:window.hacked=11) [click](\tjavascript:window.hacked=12)
[click](vbscript:x) [click](//evil.example/)
![x](javascript:window.hacked=13) ![x](http://evil.example/pixel.png "t") [ok](https://example.org/a?b=c&d="onmouseover=1)

<a href="javascript:window.hacked=14" onclick="window.hacked=15">link</a>

```html"><script>window.hacked = 16</script>
<script>window.hacked = 17</script>
```

| <script>window.hacked = 18</script> | `<img onerror=1>` |
|---|---|
| <b onmouseover="window.hacked = 19">b</b> | [x](javascript:window.hacked=20) |
"""


def test_nothing_that_a_model_says_is_executed_or_loaded(speaker: Speaker, playground: Playground) -> None:
    speaker.says(*(HOSTILE[at : at + 7] for at in range(0, len(HOSTILE), 7)), reasoning_content=HOSTILE)
    playground.ask(HOSTILE)
    answer = playground.answer
    answer.locator(".thoughts summary").click()
    for link in answer.get_by_text("click").all():
        link.click()
    answer.hover()
    assert playground.page.evaluate("window.hacked") is None
    assert answer.locator("script, img, svg, iframe, object, embed, form, style").count() == 0
    addresses = answer.locator("a").evaluate_all("links => links.map(link => link.protocol)")
    assert set(addresses) == {"http:", "https:"}
    names = answer.locator("*").evaluate_all("nodes => nodes.flatMap(node => node.getAttributeNames())")
    assert [name for name in names if name.startswith("on")] == []
    # It is shown, as the text that it is.
    expect(answer.locator(".markdown")).to_contain_text("<script>window.hacked = 1</script>")
    assert len(playground.page.context.pages) == 1


def test_scripts_may_write_no_html_at_all(playground: Playground) -> None:
    """Should one of ours ever try: the browser refuses."""
    refused = playground.page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (problem) { return problem.name; } }"
    )
    assert refused == "TypeError"
    playground.complaints.clear()


MARKDOWN = """\
# Judul

Teks *miring*, **tebal**, ~~coret~~, `kode`, dan [tautan](https://example.org/).

1. satu
   - dalam
2. dua

| a | b |
|---|--:|
| 1 | 2 |

```python
print("<halo>")
```

> kutipan
"""


def test_markdown_is_shown_as_what_it_means(speaker: Speaker, playground: Playground) -> None:
    speaker.says(*(MARKDOWN[at : at + 5] for at in range(0, len(MARKDOWN), 5)))
    playground.ask("x")
    shown = playground.answer.locator(".markdown")
    expect(shown.locator("h3")).to_have_text("Judul")
    for tag, text in (("em", "miring"), ("strong", "tebal"), ("del", "coret"), ("p code", "kode"), ("a", "tautan")):
        expect(shown.locator(tag)).to_have_text(text)
    expect(shown.locator("ol > li > ul > li")).to_have_text("dalam")
    expect(shown.locator("td.right")).to_have_text("2")
    assert shown.locator("pre code").text_content() == 'print("<halo>")'
    expect(shown.locator("blockquote")).to_have_text("kutipan")


def test_thoughts_are_folded_and_not_sent_back(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Jawaban.", reasoning_content="Saya pikir dulu.")
    playground.ask("pertama")
    thoughts = playground.answer.locator(".thoughts")
    expect(thoughts.locator(".reasoning")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator(".reasoning")).to_have_text("Saya pikir dulu.")
    playground.ask("kedua")
    assert speaker.requests[-1]["messages"] == [
        {"role": "user", "content": "pertama"},
        {"role": "assistant", "content": "Jawaban."},
        {"role": "user", "content": "kedua"},
    ]


def test_tokens_are_counted(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Halo")
    playground.ask("x")
    expect(playground.answer.locator(".facts-line")).to_contain_text("3 + 7 tokens")


def test_a_message_is_edited_and_an_answer_made_anew(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Satu")
    playground.ask("pertama")
    playground.ask("kedua")
    speaker.says("Dua")
    with playground.answering():
        playground.page.locator(".regenerate").last.click()
    expect(playground.answer.locator(".markdown")).to_have_text("Dua")
    playground.page.locator(".edit").first.click()
    playground.page.fill(".editor textarea", "lain")
    with playground.answering():
        playground.page.click(".editor [type=submit]")
    # What came after the message is gone, from the page and from the browser.
    expect(playground.page.locator(".turn")).to_have_count(1)
    assert speaker.requests[-1]["messages"] == [{"role": "user", "content": "lain"}]
    assert [turn["text"] for turn in playground.stored("turns")] == ["lain"]
    assert playground.stored_answer()["content"] == "Dua"


def test_an_answer_is_stopped(speaker: Speaker, playground: Playground, front: Front) -> None:
    speaker.says("Awal", " dan", " akhir")
    speaker.may_end.clear()
    playground.send("x")
    expect(playground.answer.locator(".markdown")).to_contain_text("Awal")
    playground.page.click("#composer .stop")
    playground.wait_for_end()
    expect(playground.answer.locator(".facts-line")).to_contain_text("Stopped")
    known = "SELECT state FROM sessions_app_chatsession WHERE id = ?"
    assert front.query(known, playground.stored_answer()["sessionId"]) == [("cancelled",)]
    speaker.may_end.set()


def test_parameters_are_sent_and_kept_with_the_chat(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Ya")
    playground.set_parameters(system="Singkat.", temperature=0.5, top_k=7, stop="A\nB", seed=3)
    expect(playground.page.locator("#parameters-count")).to_have_text("5")
    playground.ask("x")
    request = speaker.requests[-1]
    assert {name: request[name] for name in ("temperature", "top_k", "stop", "seed")} == {
        "temperature": 0.5,
        "top_k": 7,
        "stop": ["A", "B"],
        "seed": 3,
    }
    assert request["messages"][0] == {"role": "system", "content": "Singkat."}
    playground.page.click("#new-chat")
    expect(playground.page.locator("#parameters-count")).to_be_hidden()
    playground.page.click("#chat-list button")
    expect(playground.page.locator("#parameters-count")).to_have_text("5")


def test_chats_are_named_kept_and_deleted(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Ya")
    playground.ask("pertama")
    playground.page.click("#new-chat")
    playground.ask("kedua")
    playground.page.fill("#chat-title", "Nama lain")
    playground.page.press("#chat-title", "Tab")
    playground.reload()
    names = playground.page.locator("#chat-list .name")
    expect(names).to_have_text(["Nama lain", "pertama"])
    playground.page.click("#remove-chat")
    playground.page.click("#remove-dialog [value=yes]")
    expect(names).to_have_text(["pertama"])
    assert [turn["text"] for turn in playground.stored("turns")] == ["pertama"]
    assert len(playground.stored()) == 1


def drop(playground: Playground, kind: str, name: str, data: bytes) -> None:
    """``kind`` is "drop" or "paste"."""
    playground.page.evaluate(
        """([kind, name, type, data]) => {
            const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type}));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
                : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
            document.querySelector("#message").dispatchEvent(event);
        }""",
        [kind, name, "image/png" if name.endswith("png") else "video/mp4", base64.b64encode(data).decode()],
    )


def test_pictures_and_videos_come_by_file_drop_and_paste(
    speaker: Speaker, playground: Playground, tmp_path: Path
) -> None:
    speaker.says("Merah, biru, abu-abu.")
    red, blue, grey = image_bytes(color="red"), image_bytes(color="blue"), video_bytes()
    (tmp_path / "merah.png").write_bytes(red)
    playground.page.set_input_files("#composer input[type=file]", tmp_path / "merah.png")
    drop(playground, "paste", "biru.png", blue)
    drop(playground, "drop", "abu.mp4", grey)
    drop(playground, "drop", "lagi.png", red)
    expect(playground.page.locator(".attached li")).to_have_count(4)
    playground.page.click("[aria-label='Remove lagi.png']")
    playground.ask("Warna apa?")
    parts = speaker.requests[-1]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "video_url", "text"]
    assert base64.b64decode(parts[0]["image_url"]["url"].partition(",")[2]) == red
    assert base64.b64decode(parts[1]["image_url"]["url"].partition(",")[2]) == blue
    # They are there when the page is loaded again.
    playground.reload()
    expect(playground.page.locator(".asked img")).to_have_count(2)
    assert playground.page.evaluate("document.querySelector('.asked img').naturalWidth") > 0


def test_a_text_file_goes_into_the_message(playground: Playground, tmp_path: Path) -> None:
    (tmp_path / "catatan.md").write_text("isi berkas")
    playground.page.set_input_files("#composer input[type=file]", tmp_path / "catatan.md")
    expect(playground.page.locator("#message")).to_have_value("catatan.md:\n```\nisi berkas\n```\n")


def test_a_file_that_cannot_be_sent_is_refused_with_the_reason(playground: Playground, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"\0" * 10)
    playground.page.set_input_files("#composer input[type=file]", tmp_path / "data.bin")
    expect(playground.page.locator("#composer [role=alert]")).to_contain_text("data.bin is neither a picture")
    expect(playground.page.locator(".attached li")).to_have_count(0)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["curl", "python", "javascript"])
def test_the_code_asks_exactly_what_the_page_asked(
    speaker: Speaker, playground: Playground, tmp_path: Path, place: int
) -> None:
    speaker.says("Jawaban")
    (tmp_path / "foto 'satu'.png").write_bytes(image_bytes(color="red"))
    playground.set_parameters(temperature=0.5, top_k=7, stop='a"b\\', seed=3)
    playground.page.set_input_files("#composer input[type=file]", tmp_path / "foto 'satu'.png")
    playground.ask('It\'s "quoted" \\n $HOME `x` {true} null\nBaris kedua é 🙂')
    playground.ask("Lagi")
    asked = speaker.requests[-1]
    playground.answer.locator("text=View code").click()
    code = playground.page.locator(".codes details").nth(place).locator("code").text_content() or ""
    tool = ["bash", sys.executable, "node"][place]
    if shutil.which(tool) is None or (tool == "bash" and shutil.which("curl") is None):
        pytest.skip(f"no {['curl', 'Python', 'Node'][place]} on the PATH")
    script = tmp_path / ["request.sh", "request.py", "request.mjs"][place]
    script.write_text(code)
    done = subprocess.run([tool, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Jawaban" in done.stdout, done.stderr
    assert speaker.requests[-1] == asked
    assert speaker.requests[-1] is not asked


def test_a_key_is_asked_for_and_kept_for_the_tab_only(
    browser: Browser, speaker: Speaker, front: Front, tmp_path: Path
) -> None:
    speaker.says("Rahasia")
    locked = Front(tmp_path / "locked", speaker, API_KEYS=KEY)  # type: ignore[arg-type]
    try:
        locked.start()
        context = browser.new_context(base_url=locked.base_url)
        playground = Playground(context)
        page = playground.page
        playground.send("x")
        dialog = page.locator("#key-dialog")
        expect(dialog).to_be_visible()
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        expect(dialog.locator("[role=alert]")).to_have_text("The server does not take this key.")
        page.fill("#key", KEY)
        page.press("#key", "Enter")
        playground.wait_for_end()
        expect(playground.answer.locator(".markdown")).to_have_text("Rahasia")
        playground.reload()
        playground.ask("y")
        # It is in no place that outlives the tab, and in no code that is copied.
        kept = page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
        assert KEY not in kept + json.dumps([playground.stored(store) for store in ("chats", "turns", "answers")])
        playground.answer.locator("text=View code").click()
        code = page.locator(".codes").inner_text()
        assert KEY not in code and "API_KEY" in code
        page.keyboard.press("Escape")
        page.click("#forget-key")
        assert page.evaluate("sessionStorage.length") == 0
        other = Playground(context)
        other.send("z")
        expect(other.page.locator("#key-dialog")).to_be_visible()
        assert playground.complaints == other.complaints == []
        context.close()
    finally:
        locked.stop()


def test_many_answers_run_and_the_one_that_is_looked_at_does_not_wait(speaker: Speaker, playground: Playground) -> None:
    """A browser opens six connections to a server, and a page must not hold them all."""
    page = playground.page
    speaker.says("Awal", " dan", " akhir")
    speaker.may_end.clear()
    for number in range(8):
        page.click("#new-chat")
        playground.send(f"chat {number}")
        expect(playground.answer.locator(".markdown")).to_contain_text("Awal")
    asked: set[str] = set()

    def note(request: Request) -> None:
        """By its events, or by the request itself where nothing had come of it."""
        asked.update(re.findall(r"sessions/(\w+)/events", request.url))
        if request.post_data and "session_id" in request.post_data:
            asked.add(json.loads(request.post_data)["session_id"])

    page.on("request", note)
    playground.reload()
    for number in range(8):
        page.click(f"#chat-list >> text=chat {number}")
        expect(page.locator("#chat-title")).to_have_value(f"chat {number}")
        expect(page.locator(".asked .text")).to_have_text(f"chat {number}")
        session_id = playground.answer.get_attribute("data-session")
        for _ in range(200):
            page.wait_for_timeout(50)
            if session_id in asked:
                break
        assert session_id in asked
    speaker.may_end.set()
    for number in range(8):
        page.click(f"#chat-list >> text=chat {number}")
        expect(page.locator(".asked .text")).to_have_text(f"chat {number}")
        expect(playground.answer.locator(".markdown")).to_have_text("Awal dan akhir", timeout=15_000)
        expect(playground.answer.locator(".tools")).to_be_visible()
    assert [answer["state"] for answer in playground.stored()] == ["done"] * 8


def test_of_two_chats_chosen_at_once_the_later_is_shown(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Ya")
    for name in ("panjang", "pendek"):
        playground.page.click("#new-chat")
        playground.ask(name)
    for _ in range(10):
        playground.page.evaluate("document.querySelectorAll('#chat-list button').forEach(one => one.click())")
        expect(playground.page.locator("#chat-title")).to_have_value("panjang")
        expect(playground.page.locator(".asked .text")).to_have_text("panjang")


def test_a_refusal_is_shown_in_the_servers_words(playground: Playground) -> None:
    playground.set_parameters(max_tokens=5, min_tokens=6)
    playground.ask("x")
    expect(playground.answer.locator("[role=alert]")).to_contain_text("min_tokens is above max_tokens (5).")


def test_a_refusal_that_comes_while_the_page_draws_is_shown(playground: Playground) -> None:
    # The page waits ten times as long as a drawing took before it draws again: here a second.
    playground.page.evaluate(
        """() => {
            const now = performance.now.bind(performance);
            let reads = 0;
            performance.now = () => now() + 100 * reads++;
        }"""
    )
    playground.set_parameters(max_tokens=5, min_tokens=6)
    playground.ask("x")
    expect(playground.answer.locator("[role=alert]")).to_contain_text("min_tokens is above max_tokens (5).")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """As ``make demo`` serves it."""
    model = Path("models/ktp-reader")
    stack = EmbeddedStack(tmp_path_factory.mktemp("reader"), model, OCR_MAX_TOKENS=500, TORCH_DTYPE="float32")
    try:
        yield stack.start()
    finally:
        stack.stop()


def test_a_first_visitor_sees_a_card_read_with_one_click(browser: Browser, reader: EmbeddedStack) -> None:
    context = browser.new_context(base_url=reader.base_url)
    playground = Playground(context)
    expect(playground.page.locator("#welcome h2")).to_have_text("ktp-reader reads specimen cards")
    expect(playground.page.locator(".cards button")).to_have_count(3)
    with playground.answering():
        playground.page.click("#card-1")
    read = json.loads(playground.answer.locator("pre").text_content() or "")
    # As it is printed on the card.
    assert (read["nik"], read["agama"]) == ("1418996501478979", "KEPERCAYAAN TERHADAP TUHAN YANG MAHA ESA")
    expect(playground.page.locator(".asked img")).to_be_visible()
    assert playground.complaints == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280, 3840])
def test_it_fits_the_screen_and_anybody_can_use_it(
    browser: Browser, speaker: Speaker, front: Front, scheme: Any, width: int
) -> None:
    context = browser.new_context(
        base_url=front.base_url, color_scheme=scheme, viewport={"width": width, "height": 700}
    )
    playground = Playground(context)
    page = playground.page

    def assert_usable(state: str) -> None:
        wide = (
            "[document.documentElement, ...document.querySelectorAll('dialog[open]')].filter(one => one.scrollWidth > "
        )
        assert page.evaluate(f"{wide} one.clientWidth).length") == 0, state
        assert barriers(page) == [], state

    assert_usable("empty")
    speaker.says(MARKDOWN, "x" * 200, "\n\n```\n" + "long line " * 40 + "\n```", " end", reasoning_content="Hmm")
    speaker.may_end.clear()
    playground.send("panjang " * 100 + "y" * 200)
    expect(playground.answer.locator("figure").first).to_be_visible()
    assert_usable("running")
    page.click("#line .cut")
    expect(page.locator("#line")).to_have_attribute("data-is", "cut")
    assert_usable("cut")
    page.click("#line .hurry")
    speaker.may_end.set()
    playground.wait_for_end()
    assert_usable("done")
    page.locator(".edit").click()
    assert_usable("editing")
    page.keyboard.press("Escape")
    for button in ("#show-parameters", "text=View code", "#remove-chat"):
        page.locator(button).first.click()
        assert_usable(button)
        page.keyboard.press("Escape")
    if width == 320:
        page.click("#show-chats")
        expect(page.locator("#new-chat")).to_be_visible()
        assert_usable("chats")
    context.close()


def test_it_is_used_by_keyboard_alone(speaker: Speaker, playground: Playground) -> None:
    speaker.says("Ya")
    page = playground.page
    page.focus("#message")
    page.keyboard.type("satu")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("dua")
    page.keyboard.press("Enter")
    playground.wait_for_end()
    assert speaker.requests[-1]["messages"][-1]["content"] == "satu\ndua"
    expect(page.locator("#announcer")).to_have_text("The answer is complete.")
    page.focus(".edit")
    page.keyboard.press("Enter")
    expect(page.locator(".editor textarea")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".edit")).to_be_focused()


def test_it_speaks_the_readers_language(browser: Browser, front: Front, speaker: Speaker) -> None:
    speaker.says("Ya")
    context = browser.new_context(base_url=front.base_url, locale="id")
    playground = Playground(context)
    playground.ask("x")
    expect(playground.page.locator(".regenerate")).to_have_text("Buat ulang")
    context.close()


def test_the_page_stays_with_the_end_until_somebody_scrolls_away(speaker: Speaker, playground: Playground) -> None:
    page = playground.page
    to_the_end = "document.documentElement.scrollHeight - scrollY - innerHeight"
    speaker.says("kata\n\n" * 100)
    playground.ask("x")
    playground.ask("y")
    assert page.evaluate(to_the_end) < 150
    speaker.says(*["kata\n\n" * 50] * 3)
    speaker.may_end.clear()
    with playground.answering():
        playground.send("z")
        expect(page.locator(".turn")).to_have_count(3)
        expect(playground.answer.locator("p").nth(60)).to_be_attached()
        page.evaluate("scrollTo(0, 0)")
        expect(page.locator("#line")).to_be_visible()
        speaker.may_end.set()
    assert page.evaluate("scrollY") == 0


PIECES = [
    "id: s:0\ndata: a\n\n: ka\nid: s:1\r\ndata: b\r\ndata:c\r\n\r\n",
    "data: d\rid\r\rdata\n\n:\n\nid: s:2\n\ndata: é🙂\n\n",
]


def test_events_are_read_however_they_are_cut(playground: Playground) -> None:
    text = "".join(PIECES)
    read = """async ([address, text]) => {
        const {EventParser} = await import(address);
        const cuts = [];
        for (let at = 0; at <= text.length; at++) {
            const parser = new EventParser();
            cuts.push(JSON.stringify([...parser.push(text.slice(0, at)), ...parser.push(text.slice(at))]));
        }
        return [...new Set(cuts)];
    }"""
    [events] = playground.page.evaluate(read, ["/static/playground/sse.js", text])
    assert [(event["id"], event["data"]) for event in json.loads(events)] == [
        ("s:0", "a"),
        ("s:1", "b\nc"),
        ("", "d"),
        ("", ""),
        ("s:2", "é🙂"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "[a](" * 5_000,
        "[" * 3_000 + "](a)" * 3_000,
        "*a " * 10_000,
        "**a" * 5_000 + "a**" * 5_000,
        ">" * 3_000 + "a",
        "- " * 3_000 + "a",
        "`" * 9_999,
        "|a" * 2_000 + "\n" + "|-" * 2_000,
        "<" * 9_999,
        "&#0;&#x110000;",
    ],
    ids=lambda text: text[:6],
)
def test_a_text_that_is_made_to_break_the_page_is_shown(speaker: Speaker, playground: Playground, text: str) -> None:
    speaker.says(text)
    playground.ask("x")
    depth = """node => { let deepest = 0;
        for (let one of node.querySelectorAll("*")) { let at = 0; for (; one !== node; at++) one = one.parentNode;
            deepest = Math.max(deepest, at); } return deepest; }"""
    assert playground.answer.locator(".markdown").evaluate(depth) < 100
    assert playground.answer.locator(".markdown").text_content() != ""
    assert playground.stored_answer()["content"] == text


def test_it_works_behind_a_proxy_that_serves_it_under_a_prefix(
    browser: Browser, speaker: Speaker, tmp_path: Path
) -> None:
    speaker.says("Ya")
    prefixed = Front(tmp_path / "prefixed", speaker, ROOT_PATH="/sambung")  # type: ignore[arg-type]
    context = browser.new_context(base_url=f"{prefixed.base_url}/sambung/")
    try:
        prefixed.start()
        playground = Playground(context)
        playground.ask("x")
        expect(playground.answer.locator(".markdown")).to_have_text("Ya")
        playground.reload()
        expect(playground.answer.locator(".markdown")).to_have_text("Ya")
        assert playground.complaints == []
    finally:
        context.close()
        prefixed.stop()


def test_its_scripts_are_small(playground: Playground) -> None:
    """Those of everything that it can do: nothing is loaded later."""
    sizes: list[int] = []
    playground.page.on("response", lambda one: sizes.append(len(one.body())) if one.url.endswith(".js") else None)
    playground.reload()
    playground.page.wait_for_timeout(200)
    assert 10_000 < sum(sizes) < SCRIPT_BUDGET


def test_without_a_database_of_its_own_the_browser_keeps_the_chat_for_the_page(
    context: BrowserContext, speaker: Speaker
) -> None:
    speaker.says("Ya")
    context.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    playground = Playground(context)
    expect(playground.page.locator("#not-kept")).to_be_visible()
    playground.ask("x")
    expect(playground.answer.locator(".markdown")).to_have_text("Ya")
