"""Servers shared by the live tests of a run. Those that break theirs start their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests import services
from tests.live.pages import OpenPage
from tests.live.stack import API_TIMEOUT_SECONDS, EmbeddedStack, ScaledStack, Stack

# Machines differ, and other tests run beside these.
expect.set_options(timeout=30_000)

SCALED = pytest.param("scaled", marks=[pytest.mark.redis, pytest.mark.postgresql])


@pytest.fixture(scope="session", autouse=True)
def fast_starts(preloaded_servers: None) -> None:
    """Of all servers that are started by ``manage.py``."""


@pytest.fixture(scope="session")
def embedded_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("embedded"), tiny_model)
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def scaled_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    stack = ScaledStack(
        tmp_path_factory.mktemp("scaled"),
        tiny_model,
        postgres_url=services.POSTGRES_URL,
        redis_url=services.REDIS_URL,
    )
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(params=["embedded", SCALED])
def server(request: pytest.FixtureRequest) -> Stack:
    """The same server in both shapes."""
    stack: Stack = request.getfixturevalue(f"{request.param}_server")
    return stack


@pytest.fixture
def http(server: Stack) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def session_id() -> str:
    """An id that no other test uses."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def client(server: Stack) -> Iterator[openai.OpenAI]:
    """The official SDK, unmodified; no retries, so that an error is seen as it is."""
    with openai.OpenAI(
        base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0, timeout=API_TIMEOUT_SECONDS
    ) as client:
        yield client


@pytest.fixture
def start_embedded(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., EmbeddedStack]]:
    """Start a server of the test's own, with settings of its own."""
    started: list[EmbeddedStack] = []

    def start(**settings: object) -> EmbeddedStack:
        stack = EmbeddedStack(tmp_path / f"server-{len(started)}", tiny_model, **settings)
        started.append(stack)
        return stack.start()

    yield start
    for stack in started:
        stack.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=services.chromium(),
            # Every other name is one of this machine, so that a page can be of another site.
            args=["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP * 127.0.0.1"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a page of a stack in a window of its own, with options of a browser context; closed after the test."""
    opened: list[BrowserContext] = []

    def new_page(stack: Stack, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options}
        opened.append(browser.new_context(base_url=stack.base_url, **options))
        return opened[-1].new_page()

    yield new_page
    for context in opened:
        context.close()
