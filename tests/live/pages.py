"""What the browser tests do on pages of any kind: log in, and hear what the browser complains of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from playwright.sync_api import Page

if TYPE_CHECKING:
    from tests.live.stack import Stack

PASSWORD = "correct-horse-battery"


class OpenPage(Protocol):
    """The fixture ``open_page``."""

    def __call__(self, stack: Stack, **options: Any) -> Page: ...


def log_in(page: Page, name: str) -> None:
    """Fill in the form that is shown, the site's or the admin's."""
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", PASSWORD)
    page.click("main [type=submit]")


def complaints_of(page: Page, *, of_refusals: bool = True) -> list[str]:
    """A list that grows by each error of a script and each breach of the policy of the page.

    Without ``of_refusals`` a request that the server refuses is none: some tests have it refuse.
    """
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def hear(kind: str, text: str) -> None:
        if kind == "error" and (of_refusals or "Failed to load resource" not in text):
            complaints.append(text)

    page.on("console", lambda message: hear(message.type, message.text))
    return complaints
