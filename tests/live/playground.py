"""The playground in a browser, as a person uses it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect

#: what the browser keeps
STORED = """store => new Promise((resolve, reject) => {
    const opening = indexedDB.open("sambung-playground");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
        const reading = opening.result.transaction(store).objectStore(store).getAll();
        reading.onsuccess = () => { opening.result.close(); resolve(reading.result); };
    };
})"""


class Playground:
    """One tab. Whatever the browser complains of is in ``complaints``."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"{dialog.type} {dialog.message}"))
        self.open()

    def _hear(self, kind: str, text: str) -> None:
        # Of a server that is away, and of a refusal, the browser speaks by itself.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    def open(self) -> None:
        self.page.goto("./")
        self.wait_until_ready()

    def reload(self) -> None:
        self.page.reload()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        expect(self.page.locator("#playground[data-ready]")).to_be_attached(timeout=30_000)

    def set_parameters(self, **parameters: object) -> None:
        self.page.click("#show-parameters")
        for name, value in parameters.items():
            self.page.fill(f"#parameters-dialog [name={name}]", str(value))
        self.page.click("#parameters-dialog [type=submit]")

    def send(self, text: str) -> None:
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")

    @property
    def answer(self) -> Locator:
        """The last one."""
        return self.page.locator(".answer").last

    @property
    def line(self) -> Locator:
        """What is said of the connection to the answer that runs."""
        return self.page.locator("#line")

    @property
    def resumes(self) -> Locator:
        return self.page.locator(".resumes li")

    def wait_for_event(self, index: int) -> None:
        """Until the answer has come so far; it still runs then."""
        self.page.wait_for_function(
            """index => {
                const shown = document.querySelector("#line[data-is=open] .line-text")?.textContent;
                return Number(shown?.replace(/\\D/g, "") || 0) >= index;
            }""",
            arg=index,
            timeout=30_000,
        )

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """What is done here begins an answer, and it is waited for."""
        session = "[...document.querySelectorAll('.answer')].at(-1)?.dataset.session"
        before = self.page.evaluate(session)
        yield
        self.page.wait_for_function(f"before => {session} !== (before ?? undefined)", arg=before, timeout=30_000)
        self.wait_for_end()

    def ask(self, text: str) -> None:
        with self.answering():
            self.send(text)

    def wait_for_end(self) -> None:
        expect(self.page.locator(".answer.running")).to_have_count(0, timeout=60_000)
        expect(self.answer.locator(".tools")).to_be_visible(timeout=60_000)

    def stored(self, store: str = "answers") -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self.page.evaluate(STORED, store)
        return records

    def stored_answer(self) -> dict[str, Any]:
        [answer] = self.stored()
        return answer
