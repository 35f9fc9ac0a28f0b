"""A server that forwards to another one like it: what either of them suffers, the reader of the stream never sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.reader import Reader
from tests.live.events import QUESTION, WHOLE, events_of, long_question, read_stream, text_of
from tests.live.stack import START_SECONDS, EmbeddedStack, Stack
from tests.media_samples import image_bytes
from tests.waiting import wait_for

KEY = "key-of-the-upstream-0123456789"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
#: no answer of these tests is longer than this; the fronts have the usual limit
UPSTREAM_LIMIT = 3500
IMAGE = f"data:image/png;base64,{base64.b64encode(image_bytes((96, 64), color='blue')).decode()}"
SEEING = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": IMAGE}}],
    }
]
SAMPLED: dict[str, Any] = {"temperature": 1, "seed": 11, "max_tokens": 900}


class Front(EmbeddedStack):
    """Forwards to ``upstream``, and has no model."""

    #: it must not have PyTorch
    preloaded = None

    def __init__(self, folder: Path, upstream: Stack, **settings: object) -> None:
        super().__init__(
            folder,
            Path("there-is-no-such-folder"),
            **{
                "INFERENCE_ENGINE": "openai",
                "UPSTREAM_BASE_URL": f"{upstream.base_url}/v1",
                "UPSTREAM_API_KEY": KEY,
                "SERVED_MODEL_NAME": "front",
                # Long enough for a server of two cores to start again.
                "UPSTREAM_RETRY_SECONDS": START_SECONDS,
                **settings,
            },
        )

    def begin(self) -> None:
        """Start without waiting for the model."""
        self.launch("serve", "manage.py", "serve", "--port", str(self.port))
        self.wait_for_health("ok")


@pytest.fixture(scope="module")
def upstream(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(
        tmp_path_factory.mktemp("upstream"), tiny_model, API_KEYS=KEY, MAX_TOKENS_LIMIT=UPSTREAM_LIMIT
    )
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def front(upstream: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    stack = Front(tmp_path_factory.mktemp("front"), upstream)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def start_front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Start a front of the test's own, and do not wait for its upstream."""
    started: list[Front] = []

    def start(upstream: Stack, **settings: object) -> Front:
        front = Front(tmp_path / f"front-{len(started)}", upstream, **settings)
        started.append(front)
        front.begin()
        return front

    yield start
    for front in started:
        front.stop()


@pytest.fixture
def own_upstream(tiny_model: Path, tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Not started; for the test to break."""
    stack = EmbeddedStack(tmp_path / "own-upstream", tiny_model, API_KEYS=KEY)
    yield stack
    stack.stop()


def has_chunks(stack: Stack, session_id: str, count: int = 4) -> bool:
    sql = "SELECT 1 FROM sessions_app_chatsession WHERE id = ? AND next_index > ?"
    return bool(stack.query(sql, session_id, count))


def without_names(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name in {"object", "choices", "usage"}}


def test_an_answer_is_that_of_the_upstream(upstream: EmbeddedStack, front: Front) -> None:
    for messages in (QUESTION["messages"], SEEING):
        asked = QUESTION | WHOLE | SAMPLED | {"messages": messages, "stop": ["zzz"], "max_tokens": 60}
        with upstream.client(headers=WITH_KEY) as direct, front.client() as http:
            expected = direct.post("/v1/chat/completions", json=asked).json()
            answer = http.post("/v1/chat/completions", json=asked).json()
            stream = text_of(read_stream(http, asked | {"stream": True}))
        assert without_names(answer) == without_names(expected)
        assert answer["model"] == "front"
        assert stream == expected["choices"][0]["message"]["content"] != ""


def test_several_answers_with_logprobs_are_those_of_the_upstream(upstream: EmbeddedStack, front: Front) -> None:
    body = {
        **QUESTION,
        **WHOLE,
        **SAMPLED,
        "n": 3,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"70": 2.5},
        "frequency_penalty": 0.5,
        "top_k": 40,
        "max_tokens": 40,
    }
    with upstream.client(headers=WITH_KEY) as http:
        direct = http.post("/v1/chat/completions", json=body).json()
    with front.client() as http:
        through = http.post("/v1/chat/completions", json=body).json()
    assert through["usage"] == direct["usage"]
    for ours, theirs in zip(through["choices"], direct["choices"], strict=True):
        assert ours["message"] == theirs["message"]
        # Who else is in the batch changes the last bits of a likelihood, and nothing else.
        for mine, other in zip(ours["logprobs"]["content"], theirs["logprobs"]["content"], strict=True):
            assert (mine["token"], mine["bytes"]) == (other["token"], other["bytes"])
            assert mine["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
            assert len(mine["top_logprobs"]) == 2
    assert len({choice["message"]["content"] for choice in direct["choices"]}) == 3


def test_an_image_changes_the_answer(front: Front) -> None:
    blind = [{"role": "user", "content": "Apa ini?"}]
    with front.client() as http:
        seen, unseen = (
            http.post("/v1/chat/completions", json=QUESTION | WHOLE | SAMPLED | {"messages": messages}).json()
            for messages in (SEEING, blind)
        )
    assert seen["usage"]["prompt_tokens"] > unseen["usage"]["prompt_tokens"]


def test_the_served_model_has_the_name_of_the_front(front: Front) -> None:
    with front.client() as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["front"]
        health = http.get("/health").json()
        assert (health["ok"], health["modelReady"], health["modelId"], health["error"]) == (True, True, "front", None)


def test_the_front_has_no_torch_in_it(front: Front) -> None:
    with front.client() as http:
        assert http.post("/v1/chat/completions", json=QUESTION | WHOLE).status_code == 200
    assert "libtorch" not in Path(f"/proc/{front.processes['serve'].pid}/maps").read_text()


def test_a_stream_is_resumed_from_the_front_alone(front: Front) -> None:
    with front.client() as http:
        events = read_stream(http, long_question(session_id="again", **SAMPLED, ignore_eos=True) | {"max_tokens": 60})
        resumed = read_stream(http, {"stream": True}, Last_Event_ID=events[2].id)
    assert text_of(resumed) == text_of(events[3:])


def test_a_cancel_reaches_the_upstream(upstream: EmbeddedStack, front: Front) -> None:
    known = "SELECT count(*) FROM sessions_app_chatsession WHERE state = 'cancelled'"
    before = upstream.query(known)[0][0]
    with front.client() as http:
        body = long_question(session_id="cancelled", max_tokens=3400)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events_of(response)
            for _ in range(3):
                next(stream)
            with front.client() as other:
                assert other.post("/v1/cancel/cancelled").status_code == 200
            rest = list(stream)
    assert json.loads(rest[-3].data)["session_state"] == "cancelled"
    wait_for(lambda: upstream.query(known)[0][0] == before + 1)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stop_token_ids": [99_999_999]}, "invalid_request"),
        ({"messages": [{"role": "user", "content": "panjang " * 5000}]}, "context_length_exceeded"),
    ],
)
def test_what_the_upstream_refuses_is_refused_in_its_words(
    upstream: EmbeddedStack, front: Front, fields: dict[str, Any], code: str
) -> None:
    with upstream.client(headers=WITH_KEY) as direct, front.client() as http:
        expected = direct.post("/v1/chat/completions", json=QUESTION | WHOLE | fields)
        refused = http.post("/v1/chat/completions", json=QUESTION | WHOLE | fields)
    assert refused.status_code == expected.status_code == httpx.codes.BAD_REQUEST
    assert refused.json() == expected.json()
    assert refused.json()["error"]["code"] == code


def test_an_upstream_that_is_killed_and_comes_back_goes_on_with_the_same_text(
    own_upstream: EmbeddedStack, start_front: Callable[..., Front]
) -> None:
    own_upstream.start()
    front = start_front(own_upstream).wait_for_health("modelReady")
    with own_upstream.client(headers=WITH_KEY) as direct:
        expected = text_of(read_stream(direct, long_question(**SAMPLED)))
    reader = Reader([front.base_url], long_question(session_id="survivor", **SAMPLED))
    wait_for(lambda: has_chunks(front, "survivor"))
    own_upstream.processes.pop("serve").kill()
    # While it is away, health says what is being waited for, and new requests wait.
    with front.client() as http:
        wait_for(lambda: "it does not answer" in http.get("/health").json().get("progress", ""))
    own_upstream.start()
    assert reader.text() == expected
    assert reader.came_back == 0


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_front_that_ends_and_comes_back_goes_on_with_the_same_text(
    upstream: EmbeddedStack, start_front: Callable[..., Front], how: str
) -> None:
    front = start_front(upstream).wait_for_health("modelReady")
    with upstream.client(headers=WITH_KEY) as direct:
        expected = text_of(read_stream(direct, long_question(**SAMPLED)))
    reader = Reader([front.base_url], long_question(session_id="moved", **SAMPLED))
    wait_for(lambda: has_chunks(front, "moved"))
    getattr(front.processes.pop("serve"), how)()
    assert not reader.is_done()
    front.begin()
    assert reader.text() == expected
    assert reader.came_back > 0
    assert front.query("SELECT attempt FROM sessions_app_chatsession WHERE id = 'moved'") == [(2,)]


def test_an_upstream_that_has_another_answer_by_now_is_not_spliced_to_the_first(
    own_upstream: EmbeddedStack, start_front: Callable[..., Front]
) -> None:
    own_upstream.start()
    front = start_front(own_upstream).wait_for_health("modelReady")
    reader = Reader([front.base_url], long_question(session_id="torn", **SAMPLED))
    wait_for(lambda: has_chunks(front, "torn"))
    own_upstream.processes.pop("serve").kill()
    # Its log is gone, and its model is another one.
    for file in own_upstream.folder.glob("sessions.db*"):
        file.unlink()
    own_upstream.run_python(
        "from pathlib import Path\nfrom inference.tiny_models.vision import build_tiny_model\n"
        f"build_tiny_model(Path({str(own_upstream.folder / 'other')!r}), seed=5)"
    )
    own_upstream.env["MODEL_REPO_ID"] = str(own_upstream.folder / "other")
    own_upstream.env["SERVED_MODEL_NAME"] = "tiny"
    own_upstream.start()
    last = json.loads(reader.wait()[-1].data)["error"]
    assert last["code"] == "upstream_cannot_resume"
    assert "now differs from the part" in last["message"]


def test_a_wrong_key_is_said_and_not_shown(upstream: EmbeddedStack, start_front: Callable[..., Front]) -> None:
    front = start_front(upstream, UPSTREAM_API_KEY="not-the-key-of-anything")
    with front.client() as http:
        wait_for(lambda: http.get("/health").json()["error"])
        health = http.get("/health")
        refused = http.post("/v1/chat/completions", json=QUESTION | WHOLE)
    assert health.json()["error"] == "the upstream server refuses this server's key"
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_loaded")
    assert "refuses this server's key" in refused.json()["error"]["message"]
    assert "not-the-key-of-anything" not in health.text + refused.text + front.logs()


def test_an_absent_upstream_is_said_and_waited_for(
    own_upstream: EmbeddedStack, start_front: Callable[..., Front]
) -> None:
    front = start_front(own_upstream, UPSTREAM_RETRY_SECONDS=2)
    with front.client() as http:
        waiting = http.post("/v1/chat/completions", json=QUESTION | WHOLE)
        assert (waiting.status_code, waiting.json()["error"]["code"]) == (503, "model_not_loaded")
        assert "the upstream server does not answer" in waiting.json()["error"]["message"]
        assert http.get("/health").json()["error"] == "the upstream server does not answer"
        own_upstream.start()
        front.wait_for_health("modelReady")
        assert http.post("/v1/chat/completions", json=QUESTION | WHOLE).status_code == 200


def test_a_model_that_the_upstream_does_not_have_is_said(
    upstream: EmbeddedStack, start_front: Callable[..., Front]
) -> None:
    front = start_front(upstream, UPSTREAM_MODEL="another/model")
    with front.client() as http:
        wait_for(
            lambda: http.get("/health").json()["error"] == "the upstream server does not serve the configured model"
        )
