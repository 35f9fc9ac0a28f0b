"""Two servers, and the clients that talk to them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract import environments
from tests.contract.clients import CLIENTS, Client
from tests.contract.running import ClientProcess
from tests.live.stack import EmbeddedStack
from tests.media_samples import image_bytes

#: the client's, and those of others who take streams from it
KEYS = [secrets.token_urlsafe(32) for _ in range(3)]
#: greedy unless a request says otherwise: what a client gets is the same every time
SETTINGS = {"SERVED_MODEL_NAME": "tiny", "TEMPERATURE": "0"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clients", default="", help="the clients to try, by name, with blanks between; all by default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("clients").split())
    if unknown := wanted - {client.name for client in CLIENTS}:
        raise pytest.UsageError(f"There are no clients {', '.join(sorted(unknown))}.")
    if not wanted:
        return
    others = [item for item in items if getattr(item, "callspec", None) and _client_of(item) not in wanted]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


def _client_of(item: pytest.Item) -> str:
    name: str = item.callspec.params.get("client", "")  # type: ignore[attr-defined]
    return name


@pytest.fixture(scope="session")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("server"), tiny_model, **SETTINGS)
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def strict_server(tiny_thinking_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """A model that thinks, keys, and room for two streams: one for each caller."""
    stack = EmbeddedStack(
        tmp_path_factory.mktemp("strict-server"),
        tiny_thinking_model,
        **SETTINGS,
        API_KEYS=",".join(KEYS),
        MAX_TOKENS=100,
        MAX_REASONING_TOKENS=8,
        MAX_OPEN_STREAMS=2,
        MAX_OPEN_STREAMS_PER_CALLER=1,
    )
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Client], ClientProcess]]:
    """The process of a client: one for all of its cases, because some take seconds to be imported."""
    logs = tmp_path_factory.mktemp("clients")
    processes: dict[str, ClientProcess] = {}

    def process_of(client: Client) -> ClientProcess:
        if client.name not in processes:
            processes[client.name] = ClientProcess(client, logs / f"{client.name}.log")
        return processes[client.name]

    yield process_of
    for process in processes.values():
        process.close()
    for process in processes.values():
        process.stop()


@pytest.fixture
def client(request: pytest.FixtureRequest, running: Callable[[Client], ClientProcess]) -> ClientProcess:
    try:
        return running(next(client for client in CLIENTS if client.name == request.param))
    except environments.NotBuilt as error:
        pytest.fail(str(error), pytrace=False)


def told(stack: EmbeddedStack) -> dict[str, str]:
    """What a script is told of the server, see ``scripts/contract.py``."""

    def image(colour: tuple[int, int, int]) -> str:
        return "data:image/png;base64," + base64.b64encode(image_bytes((96, 64), color=colour)).decode()

    return {
        "base_url": f"{stack.base_url}/v1",
        "api_key": KEYS[0],
        "model": "tiny",
        "red": image((255, 0, 0)),
        "blue": image((0, 0, 255)),
        "session_id": f"contract-{secrets.token_hex(8)}",
    }
