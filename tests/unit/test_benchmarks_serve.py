"""The measurements of serving: how a stream is read, what the figures mean, what the command line takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine.runs import LeftOut
from benchmarks.serve import vllm_environment
from benchmarks.serve.__main__ import parse
from benchmarks.serve.against import check_memory, measure
from benchmarks.serve.answers import read_answer
from benchmarks.serve.comparison import Cell, Comparison, table
from benchmarks.serve.peers import Load, cache_gib

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def event(delta: dict[str, str] | None = None, **members: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta}]
    return b"data: " + json.dumps({"choices": choices, **members}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


ROLE = event({"role": "assistant", "content": ""})
USAGE = event(usage={"completion_tokens": 2})
DONE = b"data: [DONE]\n\n"


def test_the_first_text_is_not_the_role_that_comes_before_it() -> None:
    pieces = [
        (1.0, CHUNKED + chunk(ROLE)),
        (2.0, chunk(event({"content": "Se"}))),
        (3.0, chunk(event({"content": "a"}))),
    ]
    answer = read_answer([*pieces, (4.0, chunk(USAGE + DONE) + b"0\r\n\r\n")])
    assert (answer.first_text_at, answer.ended_at) == (2.0, 4.0)
    assert (answer.text, answer.completion_tokens, answer.events) == ("Sea", 2, 5)


def test_an_event_has_come_when_its_last_byte_has_whatever_the_pieces_are() -> None:
    whole = CHUNKED + chunk(ROLE + event({"content": "Halo"})) + chunk(USAGE) + chunk(DONE) + b"0\r\n\r\n"
    answer = read_answer([(float(number), whole[number : number + 1]) for number in range(len(whole))])
    text_ends = whole.index(b"Halo") + len(b'Halo"}}]}\n') - 1
    assert (answer.text, answer.first_text_at) == ("Halo", float(text_ends))


def test_an_answer_without_http_chunks_is_read_too() -> None:
    answer = read_answer([(1.0, b"id: s:0\n".join([HEAD + b"\r\n", ROLE, event({"content": "x"}), USAGE, DONE]))])
    assert (answer.text, answer.completion_tokens) == ("x", 2)


def test_an_answer_may_end_with_its_reason_alone() -> None:
    finish = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}\n\n'
    pieces = [(1.0, CHUNKED + chunk(event({"content": "x"}))), (2.0, chunk(finish)), (3.0, chunk(USAGE) + b"0\r\n\r\n")]
    assert read_answer(pieces).ended_at == 3.0


@pytest.mark.parametrize(
    "came",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\nbusy",
        CHUNKED + chunk(event({"content": "x"})),
        CHUNKED + chunk(ROLE + DONE),
        CHUNKED + chunk(event({"content": "x"}) + event(error={"message": "no"}) + DONE),
        b"",
    ],
    ids=["refused", "cut", "no text", "an error", "nothing"],
)
def test_what_is_not_a_whole_answer_is_not_measured(came: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_answer([(1.0, came)])


def run(rate: float, first: float, *texts: str) -> dict[str, Any]:
    return {
        "rate": rate,
        "first_seconds": [first],
        "texts": texts,
        "cores": {"web": 0.5, "worker": 1.5, "clients": 1.0},
    }


def compared() -> Comparison:
    found = Comparison(
        about={"model": "tiny", "dtype": "float32", "tokens_a_stream": 8, "ours": {}, "peer": {}},
        contestants=["scaled", "vllm"],
        peer="vllm",
    )
    rounds = {"vllm": [(50, 0.1), (10, 0.2), (100, 0.1)], "scaled": [(100, 0.1), (10, 0.1), (400, 0.3)]}
    for contestant, runs in rounds.items():
        for number, (rate, first) in enumerate(runs):
            text = "b" if (contestant, number) == ("vllm", 1) else "a"
            found.add(number, Cell(contestant, "text", 1), run(rate, first, text))
    return found


def test_ratios_to_a_peer_are_taken_within_a_round() -> None:
    ours, theirs = compared().figures()["cells"]
    assert (ours["contestant"], theirs["contestant"]) == ("scaled", "vllm")
    assert ours["rate_to_peer"] == {"median": 2, "least": 1, "most": 4}
    assert ours["first_text_to_peer"] == pytest.approx({"median": 1, "least": 0.5, "most": 3})
    assert ours["first_text_after_peer_ms"] == pytest.approx({"median": 0, "least": -100, "most": 200}, abs=1e-9)
    assert ours["texts"] == {"compared": 3, "equal": 2}
    # What the clients use is not the server's.
    assert (ours["tokens_per_core_second"], ours["per_core_to_peer"]["most"]) == (50, 4)
    assert "rate_to_peer" not in theirs


@pytest.mark.parametrize(
    ("ours", "theirs", "equal"),
    [
        ("Sea\ufffd", "Sea", 1),
        ("a\ufffdb", "a\0b", 1),
        ("ab", "a</think>b", 1),
        ("a\ufffdb", "ab", 0),
        ("Sea", "Se", 0),
    ],
    ids=[
        "half a character at the end",
        "NUL",
        "the end of reasoning",
        "a character that is missing",
        "a letter that is missing",
    ],
)
def test_texts_are_equal_where_their_tokens_must_be(ours: str, theirs: str, equal: int) -> None:
    found = Comparison(about={}, contestants=["scaled", "vllm"], peer="vllm")
    found.add(1, Cell("scaled", "text", 1), run(1, 1, ours))
    found.add(1, Cell("vllm", "text", 1), run(1, 1, theirs))
    assert found.figures()["cells"][0]["texts"] == {"compared": 1, "equal": equal}


def test_a_round_that_the_peer_has_missed_has_no_ratio() -> None:
    found = compared()
    found.runs[Cell("vllm", "text", 1)] = found.runs[Cell("vllm", "text", 1)][2:]
    ours, _ = found.figures()["cells"]
    assert (ours["rounds"], ours["rate_to_peer"]["median"]) == (3, 4)


def test_the_table_shows_what_failed_beside_what_was_measured() -> None:
    found = compared()
    found.failed["vllm", "image"] = "it takes no images"
    shown = table(found.figures())
    assert "2 of 3" in shown
    assert "vllm, image: it takes no images" in shown


class Contestant:
    """Answers at once, or not at all."""

    pids: tuple[int, ...] = ()

    def __init__(self, name: str, *, refused: str = "", log: list[tuple[str, str]]) -> None:
        self.name = name
        self._refused = refused
        self._log = log

    def run(self, requests: Any, *, every_seconds: float = 0.0) -> dict[str, Any]:
        media = "image" if requests[0].images else "text"
        self._log.append((self.name, media))
        if media == self._refused:
            raise RuntimeError(f"{self.name} takes no {media}")
        return run(1.0, 0.1, *(str(request.messages) for request in requests))


def test_the_servers_take_turns_and_one_that_failed_is_asked_no_more() -> None:
    asked: list[tuple[str, str]] = []
    found = Comparison(about={}, contestants=["scaled", "vllm"], peer="vllm")
    plan = parse(["--against", "vllm", "--streams", "2", "--rounds", "2", "--tokens", "4"])
    servers = [Contestant("scaled", log=asked), Contestant("vllm", refused="image", log=asked)]
    measure(servers, plan, (64, 32), found)
    assert [name for name, media in asked if media == "text"] == ["scaled", "vllm", "vllm", "scaled", "scaled", "vllm"]
    assert asked.count(("vllm", "image")) == 1
    assert found.failed == {("vllm", "image"): "vllm takes no image"}
    assert len(found.runs[Cell("scaled", "image", 2)]) == 2
    [texts, _, images] = found.figures()["cells"]
    assert (texts["texts"], "texts" in images) == ({"compared": 4, "equal": 4}, False)


def test_a_comparison_has_defaults_of_its_own() -> None:
    alone, beside = parse([]), parse(["--against", "vllm", "--model", "small"])
    assert (alone.streams, alone.tokens, alone.media, alone.minutes) == ([1, 8], 512, ["text"], 4)
    assert (beside.streams, beside.tokens, beside.media) == ([1, 8, 32], 32, ["text", "image"])
    assert beside.shapes == ["embedded", "scaled"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--against", "ollama"],
        ["--model", "no-such-model"],
        ["--streams", "0"],
        ["--media", "video"],
        ["--shapes", "scaled,shared"],
        ["--media", "text,image"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_peers_cache_holds_all_streams(tmp_path: Path) -> None:
    text = {"num_hidden_layers": 28, "num_key_value_heads": 8, "head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    # 229,376 bytes a token in single precision, 512 tokens of a prompt beside the answer
    load = Load(tmp_path, "float32", torch_threads=1, streams=32, tokens=512)
    assert cache_gib(load) == 7
    assert cache_gib(dataclasses.replace(load, tokens=3000)) == 25
    assert cache_gib(dataclasses.replace(load, dtype="bfloat16")) == 4
    assert cache_gib(dataclasses.replace(load, dtype="bfloat16", streams=1)) == 1


def test_a_model_that_does_not_fit_is_not_started(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(LeftOut, match=r"3 servers need some \d+ GB"):
        check_memory(tmp_path, servers=3)


def test_vllm_finds_itself_as_the_build_for_processors(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    number = vllm_environment.version()
    vllm_environment.name_itself(tmp_path, number)
    [metadata] = packages.glob("*.dist-info/METADATA")
    assert metadata.parent.name == f"vllm-{number}+cpu.dist-info"
    assert f"Name: vllm\nVersion: {number}+cpu\n" in metadata.read_text()
