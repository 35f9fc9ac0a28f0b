"""What another server says may have any shape: what is meant is delivered, and nothing unfit reaches the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inference.api.rendering import ChunkRenderer, render_completion
from inference.backends.upstream.call import calls_of
from inference.backends.upstream.engine import UpstreamEngine
from inference.backends.upstream.target import NotReady, Target, find_target
from inference.worker import runner
from inference.worker.lifecycle import Worker
from sessions_app.answer import Answer, Choice, read_answer
from sessions_app.deltas import StoredTokenLogprob
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, opening
from sessions_app.turns import Slot
from sessions_app.wakeups import StreamChunk
from tests.db.scripted_upstream import DEADLINE_SECONDS, DONE, KEY, SAMPLING, Scripted, chunk, collected, text_of
from tests.db.session_states import claimed

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
Ask = Callable[..., "Asked"]


def event(data: object) -> str:
    return f"data: {json.dumps(data)}\n\n"


def choice(delta: object = None, **members: Any) -> str:
    return event({"choices": [{"index": 0, "delta": delta or {}, **members}]})


def token(text: object = "a", **members: Any) -> dict[str, Any]:
    return {"token": text, "bytes": [97], "logprob": -0.5, "top_logprobs": []} | members


def with_logprobs(*tokens: object, text: str = "a") -> str:
    return choice({"content": text}, logprobs={"content": list(tokens)})


class Asked:
    """A session that a real worker has run to its end, read back from the database."""

    def __init__(self, session: ChatSession) -> None:
        session.refresh_from_db()
        self.session = session
        self.rows = list(Chunk.objects.after(session.pk, -1).values_list("index", "delta", "token_ids"))
        self.answer: Answer = read_answer(session.pk)
        # Whatever is committed can be sent, whole and in pieces.
        render = ChunkRenderer(session, include_usage=True)
        self.events = [data for index, delta, _ in self.rows if (data := render(StreamChunk(index, delta)))]
        for data in self.events:
            data.encode()
            assert "\0" not in data and "\\u0000" not in data
            assert data == "[DONE]" or strict(data)
        if session.state != State.FAILED:
            strict(json.dumps(render_completion(session, self.answer), ensure_ascii=False)).encode()

    @property
    def choice(self) -> Choice:
        return self.answer.first

    @property
    def logprobs(self) -> list[StoredTokenLogprob]:
        return self.choice.logprobs

    @property
    def error(self) -> dict[str, Any]:
        assert self.session.state == State.FAILED
        assert self.session.error == self.answer.error
        assert self.answer.error is not None
        return self.answer.error


def strict(text: str) -> str:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=refuse)
    text.encode()
    return text


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    worker.writer.start()
    yield worker
    worker.writer.stop(DEADLINE_SECONDS)


@pytest.fixture
def ask(upstream: Scripted, start_engine: Callable[..., UpstreamEngine], worker: Worker, settings: Any) -> Ask:
    """Have the upstream say these events, and a worker bring them into the log."""
    settings.UPSTREAM_RETRY_SECONDS = 0.0
    engine = start_engine("none")

    def ask(*events: str | bytes | None, refusal: tuple[int, bytes] | None = None, **sampling: Any) -> Asked:
        if refusal is None:
            upstream.streams(*events)
        else:
            upstream.replies.append((refusal[0], {"Content-Type": "application/json"}, [refusal[1]]))
        worker.engine_ready(engine)
        session, _ = opening.open_session(
            request={"messages": [{"role": "user", "content": "?"}], "sampling": SAMPLING | sampling},
            request_digest="d",
            model="front",
        )
        [taken] = runner.claim_next(worker, Slot.COMMON, 1)
        runner.run_claimed(worker, taken)
        return Asked(session)

    return ask


# --- Text ---


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        pytest.param(["a\ud83d", "\ude00b"], "a😀b", id="halves in two pieces"),
        pytest.param(["\ud83d", "", "\ude00"], "😀", id="nothing between the halves"),
        pytest.param(["\ud83d\ude00"], "😀", id="both halves as escapes"),
        pytest.param(["x\ud83d", "\ude00\ud83d", "\ude01"], "x😀😁", id="cut again at once"),
        pytest.param(["a\ud83d", "b"], "a\ufffdb", id="a first half alone"),
        pytest.param(["a\ude00b"], "a\ufffdb", id="a second half alone"),
        pytest.param(["\ud83d", "\ud83d", "\ude00"], "\ufffd😀", id="two first halves"),
        pytest.param(["a\ud83d"], "a\ufffd", id="a half at the end"),
        pytest.param(["\ude00\ud83d"], "\ufffd\ufffd", id="halves in the wrong order"),
        pytest.param(["a\0b", "\0"], "a\ufffdb\ufffd", id="NUL"),
        pytest.param(["👨‍👩‍👧 é \u2028", "\x1b[31m"], "👨‍👩‍👧 é \u2028\x1b[31m", id="what is unusual and valid"),
    ],
)
@pytest.mark.parametrize("kind", ["content", "reasoning_content", "refusal"])
def test_characters_come_out_whole_or_as_the_replacement_character(
    ask: Ask, pieces: list[str], text: str, kind: str
) -> None:
    asked = ask(*(choice({kind: piece}) for piece in pieces), choice(finish_reason="stop"), DONE)
    assert asked.session.state == State.COMPLETED
    name = {"content": "text", "reasoning_content": "reasoning", "refusal": "refusal"}[kind]
    assert getattr(asked.choice, name, "") == text


def test_halves_of_thoughts_and_of_text_are_not_joined_to_each_other(ask: Ask) -> None:
    asked = ask(choice({"reasoning": "a\ud83d"}), choice({"content": "\ude00b"}), choice(finish_reason="stop"), DONE)
    assert (asked.choice.reasoning, asked.choice.text) == ("a\ufffd", "\ufffdb")


def test_halves_in_one_event_are_kept_apart_too(ask: Ask) -> None:
    both = {"reasoning": "a\ud83d", "content": "\ude00b\ud83d"}
    asked = ask(choice(both), choice({"content": "\ude00"}), choice(finish_reason="stop"), DONE)
    assert (asked.choice.reasoning, asked.choice.text) == ("a\ufffd", "\ufffdb😀")


def test_bytes_that_are_no_utf8_become_the_replacement_character(ask: Ask) -> None:
    broken = choice({"content": "a?b"}).encode().replace(b"?", b"\xff\xed\xa0\xbd")
    asked = ask(broken, choice(finish_reason="stop"), DONE)
    assert asked.choice.text.strip("\ufffd") == asked.choice.text
    assert asked.choice.text.replace("\ufffd", "") == "ab"


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": ["a", {"type": "image_url"}, None, 5, {"text": 7}, "b"]}, "ab"),
        ({"content": {"type": "text", "text": "ab"}}, "ab"),
        ({"content": 5}, ""),
        ({"content": True, "reasoning": {"a": 1}}, ""),
        ("ab", ""),
        (["ab"], ""),
    ],
)
def test_content_of_another_shape_gives_the_text_in_it(ask: Ask, delta: object, text: str) -> None:
    asked = ask(choice(delta), choice({"content": "!"}), choice(finish_reason="stop"), DONE)
    assert asked.choice.text == text + "!"


@pytest.mark.parametrize("choices", [None, {}, 0, "a", [], [None], ["a"], [5], [[]], [{}], [{"index": 0}]])
def test_choices_of_another_shape_say_nothing(ask: Ask, choices: object) -> None:
    asked = ask(event({"choices": choices}), choice({"content": "ya"}, finish_reason="length"), DONE)
    assert (asked.choice.text, asked.answer.finish_reason) == ("ya", "length")


def test_only_the_choice_that_was_asked_for_is_delivered(ask: Ask) -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    mine = {"index": 0, "delta": {"content": "ya"}}
    asked = ask(event({"choices": [other, mine]}), event({"choices": [other]}), choice(finish_reason="stop"), DONE)
    assert (asked.choice.text, asked.answer.finish_reason) == ("ya", "stop")


def test_a_long_text_in_one_event_is_stored_in_pieces(ask: Ask) -> None:
    said = "añ😀" * 200_000
    asked = ask(choice({"content": said}), choice(finish_reason="stop"), DONE)
    assert asked.choice.text == said
    assert max(len(json.dumps(delta)) for _, delta, _ in asked.rows) < 2**20


# --- Refusals and ends ---


def test_a_refusal_is_delivered_as_one(ask: Ask) -> None:
    asked = ask(choice({"refusal": "I can"}), choice({"refusal": "not."}), choice(finish_reason="stop"), DONE)
    assert (asked.choice.refusal, asked.choice.text) == ("I cannot.", "")
    told = [json.loads(data)["choices"][0]["delta"] for data in asked.events[1:-3]]
    assert "".join(delta["refusal"] for delta in told) == "I cannot."
    message = render_completion(asked.session, asked.answer)["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == ("", "I cannot.")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("abort", "stop"),
        ("\ud800" * 100, "stop"),
        (["length"], "stop"),
        ({"type": "length"}, "stop"),
        (7, "stop"),
    ],
)
def test_reasons_to_end_are_openais_or_stop(ask: Ask, said: object, reason: str) -> None:
    asked = ask(choice({"content": "a"}), choice(finish_reason=said), DONE)
    assert (asked.session.state, asked.session.finish_reason) == (State.COMPLETED, reason)
    assert json.loads(asked.events[-3])["choices"][0]["finish_reason"] == reason


# --- Numbers ---


@pytest.mark.parametrize(
    ("told", "logprob"),
    [
        ("-Infinity", -9999.0),
        ("Infinity", -9999.0),
        ("NaN", -9999.0),
        ("-1e999", -9999.0),
        ("-12345.5", -9999.0),
        ("null", -9999.0),
        ('"-0.5"', -9999.0),
        ("[]", -9999.0),
        ("-" + "9" * 400, -9999.0),
        ("-1", -1.0),
        ("-0.25", -0.25),
    ],
)
def test_likelihoods_are_finite_numbers(ask: Ask, told: str, logprob: float) -> None:
    said = with_logprobs(token(logprob="X", top_logprobs=[token(logprob="X")])).replace('"X"', told)
    asked = ask(said, choice(finish_reason="stop"), DONE, logprobs=1)
    assert asked.choice.text == "a"
    [entry] = asked.logprobs
    assert [entry["logprob"], entry["top"][0]["logprob"]] == [logprob, logprob]


@pytest.mark.parametrize(
    ("told", "raw"),
    [
        ([97, 0, 255], [97, 0, 255]),
        (None, None),
        ([97, 256], None),
        ([-1], None),
        (["a"], None),
        ([1.5], None),
        ("YQ==", None),
        (97, None),
        ({}, None),
        ([10**30], None),
    ],
)
def test_bytes_of_tokens_are_bytes_or_not_told(ask: Ask, told: object, raw: object) -> None:
    asked = ask(with_logprobs(token(bytes=told)), choice(finish_reason="stop"), DONE, logprobs=0)
    [entry] = asked.logprobs
    assert entry["bytes"] == raw


@pytest.mark.parametrize(
    ("told", "name"), [("\ud83d", "\ufffd"), ("a\0", "a\ufffd"), ("\ud83d\ude00", "😀"), (None, ""), (5, ""), ([], "")]
)
def test_names_of_tokens_are_text(ask: Ask, told: object, name: str) -> None:
    asked = ask(with_logprobs(token(told, top_logprobs=[token(told)])), choice(finish_reason="stop"), DONE, logprobs=1)
    [entry] = asked.logprobs
    assert (entry["token"], entry["top"][0]["token"]) == (name, name)


@pytest.mark.parametrize("told", [5, "a", [None], {"content": 5}, {"content": {}}, {"content": [None, "a", []]}])
def test_logprobs_of_another_shape_cost_no_text(ask: Ask, told: object) -> None:
    asked = ask(choice({"content": "a"}, logprobs=told), choice(finish_reason="stop"), DONE, logprobs=0)
    assert (asked.session.state, asked.choice.text, asked.logprobs) == (State.COMPLETED, "a", [])


def test_no_more_alternatives_are_stored_than_were_asked_for(ask: Ask) -> None:
    said = with_logprobs(token(top_logprobs=[token(f"t{number}") for number in range(1000)]))
    asked = ask(said, choice(finish_reason="stop"), DONE, logprobs=2)
    assert [other["token"] for other in asked.logprobs[0]["top"]] == ["t0", "t1"]
    assert ask(said, choice(finish_reason="stop"), DONE).logprobs == []


@pytest.mark.parametrize("count", ['"7"', "-7", "NaN", "Infinity", "1e300", "9" * 400, "[]", "{}", "true", "null"])
def test_usage_that_is_no_count_is_not_believed(ask: Ask, count: str) -> None:
    usage = {"prompt_tokens": "X", "completion_tokens": "X", "completion_tokens_details": {"reasoning_tokens": "X"}}
    usage["prompt_tokens_details"] = {"cached_tokens": "X"}
    said = event({"choices": [], "usage": usage}).replace('"X"', count)
    asked = ask(choice({"content": "a"}), said, choice({"content": "b"}, finish_reason="stop"), said, DONE)
    assert asked.session.state == State.COMPLETED
    assert (asked.session.prompt_tokens, asked.session.completion_tokens) == (0, 2)
    assert (asked.answer.reasoning_tokens, asked.answer.cached_tokens) == (0, 0)


@pytest.mark.parametrize(
    "usage", [5, "a", [], [1], {"completion_tokens_details": 5}, {"completion_tokens_details": []}]
)
def test_usage_of_another_shape_is_not_believed(ask: Ask, usage: object) -> None:
    asked = ask(choice({"content": "a"}, finish_reason="stop"), event({"choices": [], "usage": usage}), DONE)
    assert (asked.session.state, asked.session.completion_tokens) == (State.COMPLETED, 1)


def test_a_huge_count_costs_no_memory(ask: Ask) -> None:
    said = event({"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 2**31 - 1}})
    asked = ask(said, choice(finish_reason="stop"), DONE)
    assert asked.session.state == State.COMPLETED
    assert sum(len(ids) for _, _, ids in asked.rows) <= 10_000


# --- Events ---

A_TEXT = choice({"content": "a"})
THE_END = choice(finish_reason="stop")


@pytest.mark.parametrize(
    "between",
    [
        "data:\n\n",
        "data\n\n",
        "data: \n\n",
        "data:\ndata:\n\n",
        ": comment\n\n",
        ":\n",
        "id: 1\n\n",
        "event: ping\n\n",
        "event: ping\ndata: {}\n\n",
        "retry: 5\n\n",
        "retry: x\n\n",
        "unknown: 5\nunknown\n\n",
        "\n\n\n",
        "\r\r\n\r",
        event({}),
        event({"error": None}),
        event({"error": None, "choices": []}),
        event({"object": "ping"}),
    ],
)
def test_what_says_nothing_ends_nothing(ask: Ask, between: str) -> None:
    # With an id before it, as a server that resumes has it.
    asked = ask("id: x\n" + A_TEXT, between, "id: y\n" + A_TEXT, between, THE_END, between, DONE)
    assert (asked.session.state, asked.choice.text) == (State.COMPLETED, "aa")


@pytest.mark.parametrize(
    "done", ["data: [DONE] \n\n", "data:[DONE]\n\n", "data:  [DONE]\t\n\n", "data: [DONE]\r\n\r\n"]
)
def test_the_end_may_have_blanks_around_it(ask: Ask, done: str) -> None:
    asked = ask(A_TEXT, done, choice({"content": "behind the end"}))
    assert (asked.session.state, asked.choice.text) == (State.COMPLETED, "a")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_any_of_the_three_ways(ask: Ask, end: str) -> None:
    said = (A_TEXT + choice({"content": "é\u2028\x85"}) + THE_END + DONE).replace("\n", end)
    asked = ask("\ufeff" + said)
    assert asked.choice.text == "aé\u2028\x85"


def test_data_in_several_lines_is_one_event(ask: Ask) -> None:
    lines = json.dumps({"choices": [{"delta": {"content": "a"}}]}, indent=1).splitlines()
    asked = ask("".join(f"data: {line}\n" for line in lines) + "\n", THE_END, DONE)
    assert asked.choice.text == "a"


def test_a_stream_that_says_another_charset_is_utf8_all_the_same(ask: Ask, upstream: Scripted) -> None:
    said = json.dumps({"choices": [{"delta": {"content": "é"}}]}, ensure_ascii=False)
    upstream.replies.append((200, {"Content-Type": "Text/Event-Stream; charset=latin-1"}, [f"data: {said}\n\n{DONE}"]))
    asked = ask()
    upstream.replies.clear()
    assert asked.choice.text == "é"


@pytest.mark.parametrize(
    "error", ["out of memory", {"message": "m"}, {"message": 5}, ["m"], 5, True, {"message": "\ud800\0"}]
)
def test_an_error_in_any_shape_ends_the_answer_with_an_error(ask: Ask, error: object) -> None:
    asked = ask(A_TEXT, event({"error": error}))
    assert asked.error["code"] == "upstream_failed"
    assert "failed while it answered" in asked.error["message"]
    assert asked.choice.text == "a"


def test_an_error_without_its_envelope_is_one_too(ask: Ask) -> None:
    assert ask(event({"object": "error", "message": "m", "code": 500})).error["code"] == "upstream_failed"
    assert ask('event: error\ndata: {"message": "m"}\n\n').error["code"] == "upstream_failed"


@pytest.mark.parametrize("data", ["{broken", "null", "5", '"a"', "[]", "[" * 200_000, "9" * 5000, "data: {}"])
def test_an_event_that_is_no_chunk_is_said_to_be_so(ask: Ask, data: str) -> None:
    asked = ask(f"data: {data}\n\n")
    assert asked.error["code"] == "upstream_failed"
    assert "sent an event that is" in asked.error["message"]


@pytest.mark.parametrize(
    "said", ["data: " + "a" * 5000, "data: " + "a\ndata: " * 1000, "a" * 5000, ":" + "a" * 5000, "id: 1\n" * 1000]
)
def test_an_event_without_an_end_is_not_read_for_ever(ask: Ask, settings: Any, said: str) -> None:
    settings.UPSTREAM_MAX_EVENT_BYTES = 4000
    asked = ask(A_TEXT, said, None)
    assert (asked.error["code"], asked.choice.text) == ("upstream_failed", "a")
    assert "too long" in asked.error["message"]


def test_many_events_together_may_be_longer_than_one(ask: Ask, settings: Any) -> None:
    settings.UPSTREAM_MAX_EVENT_BYTES = 4000
    asked = ask((A_TEXT + ": comment\n\n") * 1000, THE_END, DONE)
    assert asked.choice.text == "a" * 1000


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=utf-8", "text/plain"])
def test_an_answer_that_is_no_stream_is_said_to_be_none(ask: Ask, upstream: Scripted, kind: str) -> None:
    upstream.replies.append((200, {"Content-Type": kind}, ['{"choices": []}']))
    asked = ask()
    upstream.replies.clear()
    assert asked.error["code"] == "upstream_failed"
    assert "did not send an event stream" in asked.error["message"]


# --- Errors ---


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"<html><body>\0 no</body></html>", "refuses the request", id="HTML"),
        pytest.param(b"", "refuses the request", id="nothing"),
        pytest.param(b"\xff\xfe\0", "refuses the request", id="bytes"),
        pytest.param(b'"why"', "refuses the request", id="a string"),
        pytest.param(b'{"error": "why"}', "why", id="a string for an error"),
        pytest.param(b'{"message": "why"}', "why", id="no envelope"),
        pytest.param(b'{"detail": "why"}', "why", id="FastAPI's"),
        pytest.param(b'{"error": {"message": "w\\u0000h\\ud83dy"}}', "w\ufffdh\ufffdy", id="NUL and a half"),
        pytest.param(b'{"error": {"message": {"a": 1}}}', "refuses the request", id="an object"),
        pytest.param(b'{"error": {"message": "' + b"a" * 20_000 + b'"}}', "a" * 500, id="20 kB"),
        pytest.param(b'{"error": {"message": "' + b"a" * 10_000_000 + b'"}}', "refuses the request", id="10 MB"),
        pytest.param(b"[" * 200_000, "refuses the request", id="deep"),
        pytest.param(b'{"error": null}', "refuses the request", id="null"),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_whatever_a_refusal_says_the_error_is_short_and_clear(ask: Ask, body: bytes, message: str, status: int) -> None:
    error = ask(refusal=(status, body)).error
    assert message in error["message"]
    assert len(error["message"]) <= 2000
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_request")


def test_the_members_of_a_refusal_are_text_and_short(ask: Ask) -> None:
    said = {"message": "m", "param": "p\0" + "a" * 5000, "code": "c\ud800" + "a" * 5000}
    error = ask(refusal=(400, json.dumps({"error": said}).encode())).error
    assert error["param"].startswith("p\ufffda") and error["code"].startswith("c\ufffda")
    assert len(error["param"]) + len(error["code"]) <= 1000


def test_a_key_that_is_written_with_escapes_is_blotted_out_too(ask: Ask) -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    error = ask(refusal=(400, f'{{"error": {{"message": "what is {escaped}"}}}}'.encode())).error
    assert error["message"] == "what is ***"


# --- Going on after a loss ---


def log_so_far(*pieces: appending.Piece) -> ChatSession:
    session, _ = opening.open_session(
        request={"messages": [{"role": "user", "content": "?"}], "sampling": SAMPLING | {"logprobs": 0}},
        request_digest="d",
        model="front",
    )
    session = claimed(session)
    assert not appending.append([appending.Append(session.pk, session.attempt, 1, pieces)])
    session.refresh_from_db()
    return session


def test_a_repeated_stream_is_compared_after_its_halves_are_joined(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(*map(chunk, ["a\ud83d", "\ude00\0", "b\ud83d", "\ude01c\ud83d"]), THE_END, DONE)
    said = appending.Piece({"type": "text", "text": "a😀\ufffd"}, [-1, -1])
    deltas, _ = collected(start_engine("session").submit(log_so_far(said)))
    assert text_of(deltas) == "b😁c\ufffd"


def test_a_stream_that_is_cut_between_two_halves_goes_on_whole(upstream: Scripted, start_engine: Any) -> None:
    engine = start_engine("session")
    session = log_so_far()
    [call] = calls_of(session, engine.target)
    upstream.streams(f"id: {call.upstream_id}:1\n" + chunk("a\ud83d"), None)
    upstream.streams(chunk("\ude00b"), THE_END, DONE)
    deltas, _ = collected(engine.submit(session))
    assert text_of(deltas) == "a😀b"
    assert upstream.headers[-1]["Last-Event-ID"] == f"{call.upstream_id}:1"


@pytest.mark.parametrize("event_id", ["é:1", "x", "other:5", "\x1b", "a" * 5000, ":", "up-1:-1"])
def test_an_event_id_that_cannot_be_sent_back_is_not(upstream: Scripted, start_engine: Any, event_id: str) -> None:
    upstream.streams(f"id: {event_id}\n" + chunk("a"), None)
    upstream.streams(chunk("a"), chunk("b"), THE_END, DONE)
    deltas, _ = collected(start_engine("session").submit(log_so_far()))
    assert text_of(deltas) == "ab"
    assert "Last-Event-ID" not in upstream.headers[-1]


def test_a_half_before_a_cut_is_asked_for_again(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("a"), chunk("b\ud83d"), None)
    upstream.streams(chunk("b😀"), THE_END, DONE)
    deltas, _ = collected(start_engine("prefix").submit(log_so_far()))
    assert text_of(deltas) == "ab😀"
    assert upstream.requests[1]["messages"][-1] == {"role": "assistant", "content": "a"}


def test_the_likelihoods_of_what_is_repeated_are_not_stored_twice(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(*(with_logprobs(token(name), text=name) for name in "abc"), THE_END, DONE)
    said = appending.Piece({"type": "text", "text": "ab"}, [-1, -1])
    deltas, finish = collected(start_engine("session").submit(log_so_far(said)))
    assert [entry.chosen.token for delta in deltas for entry in delta.logprobs] == ["c"]
    assert finish.completion_tokens == 3


def test_a_refusal_goes_on_where_it_is_kept_and_nowhere_else(upstream: Scripted, start_engine: Any) -> None:
    said = appending.Piece({"type": "refusal", "text": "I can"}, [-1])
    upstream.streams(choice({"refusal": "I ca"}), choice({"refusal": "nnot"}), THE_END, DONE)
    deltas, _ = collected(start_engine("session").submit(log_so_far(said)))
    assert "".join(delta.refusal for delta in deltas) == "not"
    with pytest.raises(Exception, match="cannot continue a refusal"):
        collected(start_engine("prefix").submit(log_so_far(said)))


# --- The list of models ---


def looked_at(engine: UpstreamEngine) -> Target:
    found: list[Target] = []

    async def look() -> None:
        found.append(await find_target(engine.client))

    engine.run(look()).result(DEADLINE_SECONDS)
    return found[0]


@pytest.mark.parametrize(
    "models",
    [
        [{"id": "a\0"}],
        [{"id": "\ud800"}],
        [{"id": "a\nb"}],
        [{"id": "a" * 300}],
        [{"id": ""}],
        [{"id": 5}, "m", None, ["m"]],
        {"id": "m"},
        5,
        None,
    ],
)
def test_a_model_whose_name_cannot_be_stored_is_not_there(
    upstream: Scripted, start_engine: Any, models: object
) -> None:
    upstream.replies.append((200, {}, [json.dumps({"data": models})]))
    with pytest.raises(NotReady) as refusal:
        looked_at(start_engine("none"))
    assert refusal.value.for_good


def test_a_sound_model_among_odd_ones_is_found(upstream: Scripted, start_engine: Any) -> None:
    models = [None, {"id": "\0"}, {"id": "m", "owned_by": {"vllm": "\ud800"}}]
    upstream.replies.append((200, {}, [json.dumps({"data": models})]))
    assert looked_at(start_engine("none")) == Target("m", "none")


@pytest.mark.parametrize("body", [b"[" * 200_000, b"\xff\xfe\0", b'{"data": [{"id": "' + b"m" * 10_000_000 + b'"}]}'])
def test_a_list_of_models_that_cannot_be_read_is_said_to_be_so(
    upstream: Scripted, start_engine: Any, body: bytes
) -> None:
    upstream.replies.append((200, {}, [body]))
    with pytest.raises(NotReady, match="cannot be read") as refusal:
        looked_at(start_engine("none"))
    assert refusal.value.for_good
