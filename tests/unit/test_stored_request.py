"""The stored request: what is written, what an older or a newer version reads of it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from inference import stored_request
from inference.engine.types import Constraint, Sampling
from inference.errors import RequestTooNew
from inference.stored_request import VERSION, StoredRequest, choices_of

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Apa ini?"}, {"type": "image"}]}
]
#: the fields of the first version. A new field does not come here: it says "since", as the module's docstring explains
FIRST_VERSION = {
    "messages", "sampling", "choices",
    "max_tokens", "temperature", "top_p", "seed", "stop", "min_tokens", "ignore_eos", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "stop_token_ids", "logprobs",
}  # fmt: skip


def through_json(request: StoredRequest) -> dict[str, Any]:
    return json.loads(json.dumps(request.to_dict()))


@dataclasses.dataclass(frozen=True, slots=True)
class LaterSampling(Sampling):
    """That of a version to come."""

    grammar: str | None = dataclasses.field(default=None, metadata={"since": VERSION + 1})


def test_a_request_comes_back_from_json_as_it_was() -> None:
    sampling = Sampling(
        max_tokens=5, temperature=0.7, seed=2**62, stop=("a", "b"), logit_bias=((3, -1.5),), stop_token_ids=(9,)
    )
    constraint = Constraint("regex", "[0-9]+")
    request = StoredRequest(MESSAGES, sampling, choices=2, constraint=constraint, wire_format={"guided_regex": "a"})
    assert StoredRequest.from_dict(through_json(request)) == request


def test_every_field_is_of_the_first_version_or_says_since_when_it_is_there() -> None:
    fields = [*dataclasses.fields(StoredRequest), *dataclasses.fields(Sampling)]
    assert {field.name for field in fields if "since" not in field.metadata} == FIRST_VERSION


def test_a_row_without_a_version_is_of_the_first_and_may_lack_fields() -> None:
    old = {"messages": MESSAGES, "sampling": {"max_tokens": 5, "temperature": 0.7, "stop": []}}
    assert StoredRequest.from_dict(old) == StoredRequest(MESSAGES, Sampling(max_tokens=5, temperature=0.7))


def test_a_later_field_that_asks_for_nothing_is_left_out_so_that_older_workers_read_the_request() -> None:
    written = through_json(StoredRequest(MESSAGES, LaterSampling(max_tokens=5)))
    assert "grammar" not in written["sampling"]
    assert StoredRequest.from_dict(written) == StoredRequest(MESSAGES, Sampling(max_tokens=5))


def test_a_later_field_that_asks_for_something_is_refused_by_name() -> None:
    written = through_json(StoredRequest(MESSAGES, LaterSampling(max_tokens=5, grammar="digits")))
    assert written["version"] == VERSION + 1
    with pytest.raises(RequestTooNew, match=rf"version {VERSION + 1}, with sampling\.grammar") as refusal:
        StoredRequest.from_dict(written)
    assert (refusal.value.status, refusal.value.code) == (503, "worker_outdated")


@pytest.mark.parametrize(
    "differing",
    [{"version": VERSION + 1}, {"version": "2"}, {"audio": []}, {"sampling": {"max_tokens": 5, "grammar": None}}],
)
def test_what_this_version_does_not_know_is_refused(differing: dict[str, Any]) -> None:
    with pytest.raises(RequestTooNew):
        StoredRequest.from_dict({**through_json(StoredRequest(MESSAGES, Sampling(max_tokens=5))), **differing})


def test_a_later_sampling_field_is_read_by_the_version_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_request, "Sampling", LaterSampling)
    monkeypatch.setattr(stored_request, "VERSION", VERSION + 1)
    request = StoredRequest(MESSAGES, LaterSampling(max_tokens=5, grammar="digits"))
    assert StoredRequest.from_dict(through_json(request)) == request


@pytest.mark.parametrize(("stored", "choices"), [({}, 1), (None, 1), ({"choices": 3}, 3), ({"version": 99}, 1)])
def test_how_many_answers_there_are_is_known_for_any_version_and_without_the_request(stored: Any, choices: int) -> None:
    assert choices_of(stored) == choices
