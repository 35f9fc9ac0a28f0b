"""Answers that are held to a grammar."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from inference.engine.errors import InvalidConstraint
from inference.engine.grammar import KEPT_GRAMMARS, Grammars, MaskRow
from inference.engine.masks import Masks
from inference.engine.types import Constraint, Sampling

SEEDED = {"temperature": 1.0, "top_p": 0.95, "seed": 11}
SAMPLINGS = [{}, SEEDED, {**SEEDED, "top_k": 5, "min_p": 0.01, "presence_penalty": 1.0, "repetition_penalty": 1.3}]
PERSON = {
    "type": "object",
    "properties": {
        "nama": {"type": "string", "minLength": 1, "maxLength": 30},
        "umur": {"type": "integer", "minimum": 0, "maximum": 150},
        "alamat": {
            "type": "object",
            "properties": {
                "rt_rw": {"type": "string", "pattern": "^([0-9]{3}/[0-9]{3})?$"},
                "kota": {"$ref": "#/$defs/kota"},
            },
            "required": ["rt_rw", "kota"],
            "additionalProperties": False,
        },
        "lahir": {"type": "string", "format": "date"},
        "anak": {"type": "array", "items": {"enum": ["A", "B", None, 3]}, "minItems": 1, "maxItems": 3},
        "nikah": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    },
    "required": ["nama", "umur", "alamat", "lahir", "anak", "nikah"],
    "additionalProperties": False,
    "$defs": {"kota": {"type": "string", "pattern": "^[A-Z]{1,12}$"}},
}


def schema(value: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(value))


ENDLESS = Constraint("regex", r"[a-z ]+")
#: of the keys and values of the small model: 2 x 4 layers x 2 key heads x 32 x 4 bytes
TOKEN_BYTES = 2048


@pytest.fixture
def ask(make_request: Any) -> Any:
    def ask(constraint: Constraint | None, *args: Any, **options: Any) -> Any:
        return dataclasses.replace(make_request(*args, **{"max_tokens": 400, **options}), constraint=constraint)

    return ask


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded", "penalised"])
def test_an_answer_has_the_shape_of_its_schema(start_engine: Any, ask: Any, collect: Any, sampling: Any) -> None:
    answer = collect(start_engine().submit(ask(schema(PERSON), **sampling)))
    assert answer.finish.reason == "stop"
    jsonschema.validate(json.loads(answer.text), PERSON, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (Constraint("choice", '["ya", "tidak", "mungkin \\"saja\\" \\u00e9"]'), 'ya|tidak|mungkin "saja" é'),
        (Constraint("regex", "[0-9]{3}-[a-f]{2,4}"), "[0-9]{3}-[a-f]{2,4}"),
        (Constraint("grammar", 'start: "<" item ("," item)~2 ">"\nitem: /[a-z]{1,3}/'), "<[a-z]{1,3}(,[a-z]{1,3}){2}>"),
    ],
    ids=["choice", "regex", "grammar"],
)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded", "penalised"])
def test_an_answer_is_one_that_its_grammar_has(
    start_engine: Any, ask: Any, collect: Any, constraint: Constraint, pattern: str, sampling: Any
) -> None:
    answer = collect(start_engine().submit(ask(constraint, **sampling)))
    assert answer.finish.reason == "stop"
    assert re.fullmatch(pattern, answer.text)


def test_an_answer_ends_with_its_last_token_where_nothing_can_follow(
    loaded: Any, start_engine: Any, ask: Any, collect: Any
) -> None:
    answer = collect(start_engine().submit(ask(Constraint("regex", "[0-9]{4}"))))
    assert len(answer.text) == 4
    assert not {*answer.ids} & {*loaded.eos_token_ids}
    assert answer.finish.completion_tokens == len(answer.ids)


def test_an_answer_that_may_go_on_ends_where_the_model_ends_it(
    loaded: Any, start_engine: Any, ask: Any, collect: Any
) -> None:
    wanted = tuple((token, 100.0) for token in loaded.eos_token_ids)
    answer = collect(start_engine().submit(ask(Constraint("regex", "[0-9]{4}[a-z]*"), logit_bias=wanted)))
    assert re.fullmatch("[0-9]{4}", answer.text)
    assert answer.ids[-1] in loaded.eos_token_ids
    assert answer.finish.reason == "stop"


def test_a_cut_answer_says_so(start_engine: Any, ask: Any, collect: Any) -> None:
    whole = collect(start_engine().submit(ask(schema(PERSON))))
    cut = collect(start_engine().submit(ask(schema(PERSON), max_tokens=len(whole.ids) - 1)))
    assert cut.finish.reason == "length"
    assert cut.ids == whole.ids[:-1]
    just_enough = collect(start_engine().submit(ask(schema(PERSON), max_tokens=len(whole.ids))))
    assert just_enough.finish == whole.finish


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded", "penalised"])
def test_a_resumed_answer_goes_on_with_exactly_the_rest(
    start_engine: Any, ask: Any, collect: Any, sampling: Any
) -> None:
    engine = start_engine()
    whole = collect(engine.submit(ask(schema(PERSON), "image", **sampling)))
    cuts = range(len(whole.ids) + 1)
    handles = [engine.submit(ask(schema(PERSON), "image", resume_ids=whole.ids[:cut], **sampling)) for cut in cuts]
    for cut, handle in zip(cuts, handles, strict=True):
        resumed = collect(handle)
        assert resumed.deltas == whole.deltas[cut:]
        assert resumed.finish == whole.finish


def test_rows_with_and_without_a_grammar_do_not_see_each_other(start_engine: Any, ask: Any, collect: Any) -> None:
    constraints = [schema(PERSON), None, Constraint("regex", "[a-z]{80}"), None, schema({"type": "object"})]
    requests = [
        ask(constraint, max_tokens=60, **{**sampling, "seed": number})
        for number, (sampling, constraint) in enumerate(itertools.product(SAMPLINGS, constraints))
    ]
    alone = start_engine(max_batch_size=1)
    expected = [collect(alone.submit(request)) for request in requests]
    together = start_engine(max_batch_size=6)
    for handle, before in zip([together.submit(request) for request in requests], expected, strict=True):
        answer = collect(handle)
        assert answer.deltas == before.deltas
        assert answer.finish == before.finish


def test_a_preempted_answer_goes_on_in_its_grammar(start_engine: Any, ask: Any, collect: Any) -> None:
    held = Constraint("regex", "[a-z ]{9999}")
    requests = [ask(held, max_tokens=700, temperature=1.0, seed=seed) for seed in range(4)]
    roomy, tight = start_engine(), start_engine(kv_cache_bytes=2000 * TOKEN_BYTES)
    expected = [collect(handle) for handle in [roomy.submit(request) for request in requests]]
    for handle, before in zip([tight.submit(request) for request in requests], expected, strict=True):
        assert collect(handle).deltas == before.deltas
    assert tight.stats().evictions > 0


def test_logprobs_are_those_of_the_model_and_not_of_the_grammar(
    loaded: Any, start_engine: Any, ask: Any, collect: Any
) -> None:
    engine = start_engine()
    held = collect(engine.submit(ask(Constraint("regex", "[0-9]{8}"), logprobs=5)))
    free = collect(engine.submit(ask(None, max_tokens=1, logprobs=5)))
    first = held.deltas[0].logprobs[0]
    assert first.top == free.deltas[0].logprobs[0].top
    assert first.chosen.logprob < first.top[0].logprob
    assert [delta.logprobs[0].chosen.token_id for delta in held.deltas] == held.ids


def test_no_text_of_an_answer_is_a_control_token(loaded: Any) -> None:
    grammars = Grammars(loaded.tokenizer, loaded.vocabulary, loaded.eos_token_ids)
    matcher = grammars.matcher(Constraint("regex", r"(.|\n)*"))
    assert allowed(matcher) & loaded.vocabulary.controls.keys() == {*loaded.eos_token_ids}


@pytest.mark.parametrize("text", ["<|im_end|>", "a</think>b", "<|image_pad|>", "<tool_call>{}</tool_call>"])
@pytest.mark.parametrize("kind", ["choice", "json_schema"])
def test_text_that_a_grammar_wants_makes_no_control_token(
    loaded: Any, start_engine: Any, ask: Any, collect: Any, text: str, kind: str
) -> None:
    constraint = Constraint("choice", json.dumps([text])) if kind == "choice" else schema({"const": text})
    answer = collect(start_engine().submit(ask(constraint)))
    assert answer.text == (text if kind == "choice" else json.dumps(text))
    assert not {*answer.ids} & loaded.vocabulary.controls.keys()


def allowed(matcher: Any, tokens: int = 512) -> set[int]:
    row = MaskRow(np.zeros(tokens // 8, dtype=np.uint8))
    matcher.fill(row)
    return {*np.flatnonzero(np.unpackbits(row.bits, bitorder="little")).tolist()}


# --- thoughts ---


def test_a_grammar_begins_behind_the_thought(loaded: Any, start_engine: Any, ask: Any, collect: Any) -> None:
    engine = start_engine(with_template(loaded, "assistant\\n'", "assistant\\n<think>\\n'"))
    thought = collect(engine.submit(ask(schema(PERSON), max_tokens=20)))
    free = collect(engine.submit(ask(None, max_tokens=20)))
    assert thought.reasoning == free.reasoning
    # The random model never closes its thought, so an earlier attempt is said to have done so.
    earlier = [*thought.ids, loaded.vocabulary.think_end]
    answer = collect(engine.submit(ask(schema(PERSON), resume_ids=earlier)))
    jsonschema.validate(json.loads(answer.text), PERSON)
    assert answer.reasoning == ""
    assert answer.finish.reasoning_tokens == len(earlier)
    for cut in range(0, len(answer.ids), 7):
        resumed = collect(engine.submit(ask(schema(PERSON), resume_ids=[*earlier, *answer.ids[:cut]])))
        assert resumed.deltas == answer.deltas[cut:]


def test_a_thought_is_not_the_end_of_an_answer_that_has_a_grammar(
    loaded: Any, start_engine: Any, ask: Any, collect: Any
) -> None:
    engine = start_engine(with_template(loaded, "assistant\\n'", "assistant\\n<think>\\n'"))
    eager = {"max_tokens": 30, "logit_bias": tuple((token, 100.0) for token in loaded.eos_token_ids)}
    assert collect(engine.submit(ask(None, **eager))).finish.reason == "stop"
    held = collect(engine.submit(ask(ENDLESS, **eager)))
    assert held.finish.reason == "length"
    assert len(held.ids) == 30


def test_a_model_that_opens_its_thoughts_itself_may_do_so_before_the_grammar(
    loaded: Any, start_engine: Any, ask: Any, collect: Any
) -> None:
    engine = start_engine(with_template(loaded, "{%- if add", "{#- enable_thinking -#}{%- if add"))
    start, end = loaded.vocabulary.think_start, loaded.vocabulary.think_end
    thinking = collect(engine.submit(ask(ENDLESS, max_tokens=5, logit_bias=((start, 100.0),))))
    assert thinking.ids[0] == start
    assert thinking.finish.reasoning_tokens == 5
    answer = collect(engine.submit(ask(schema(PERSON), resume_ids=[start, 70, end])))
    jsonschema.validate(json.loads(answer.text), PERSON)
    plain = collect(start_engine().submit(ask(ENDLESS, max_tokens=5, logit_bias=((start, 100.0),))))
    assert start not in plain.ids


def with_template(loaded: Any, old: str, new: str) -> Any:
    """The same model with another template."""
    processor = copy.copy(loaded.processor)
    assert old in processor.chat_template
    processor.chat_template = processor.chat_template.replace(old, new)
    return dataclasses.replace(loaded, processor=processor)


# --- what cannot be done ---


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (schema({"type": "string", "format": "nik"}), "nik"),
        (Constraint("json_schema", "[1]"), "cannot be read"),
        (Constraint("regex", "(a"), "invalid regex"),
        (Constraint("grammar", "start: x"), "unknown name"),
    ],
)
def test_a_constraint_that_cannot_be_enforced_is_refused(
    start_engine: Any, ask: Any, constraint: Constraint, reason: str
) -> None:
    with pytest.raises(InvalidConstraint, match=reason):
        list(start_engine().submit(ask(constraint)))


def test_a_grammar_that_becomes_too_complex_ends_its_own_answer_only(start_engine: Any, ask: Any, collect: Any) -> None:
    wide = {"type": "object", "properties": {f"p{number}": {} for number in range(1500)}}
    nested = schema({"type": "object", "properties": {"a": wide}, "required": ["a"], "additionalProperties": False})
    engine = start_engine()
    expected = collect(engine.submit(ask(schema(PERSON))))
    neighbour, greedy_for_more = engine.submit(ask(schema(PERSON))), engine.submit(ask(nested))
    with pytest.raises(InvalidConstraint):
        list(greedy_for_more)
    assert collect(neighbour).deltas == expected.deltas


def test_tokens_of_an_earlier_attempt_that_break_the_grammar_are_no_beginning(start_engine: Any, ask: Any) -> None:
    with pytest.raises(InvalidConstraint):
        list(start_engine().submit(ask(schema(PERSON), resume_ids=[70, 70, 70])))


def test_a_grammar_that_is_known_allows_what_it_allows_when_it_is_new(loaded: Any) -> None:
    def walk(grammars: Grammars) -> list[set[int]]:
        matcher, seen = grammars.matcher(schema(PERSON)), []
        while not matcher.is_complete:
            seen.append(allowed(matcher))
            matcher.take(max(seen[-1], key=lambda token: (token * 7919 + len(seen)) % 512))
        return seen

    grammars = Grammars(loaded.tokenizer, loaded.vocabulary, loaded.eos_token_ids)
    new = walk(grammars)
    assert walk(grammars) == new
    for number in range(KEPT_GRAMMARS):
        grammars.matcher(Constraint("regex", f"[0-9]{{{number + 1}}}"))
    assert not grammars.has(schema(PERSON))
    assert walk(grammars) == new


# --- masks ---


@dataclasses.dataclass
class FixedMatcher:
    """Allows the same tokens at every step."""

    bits: np.ndarray

    def fill(self, row: MaskRow) -> None:
        row.bits[: len(self.bits)] = self.bits


@dataclasses.dataclass
class Row:
    matcher: Any
    forced_token: int | None = None
    bad_words: Any = ()
    sampling: Any = Sampling(max_tokens=1)  # noqa: RUF009
    prompt_ids: Any = ()
    generated_ids: Any = ()


@pytest.mark.parametrize("vocabulary", [96, 97, 130, 1000])
@pytest.mark.parametrize("constrained", [(True, True, True), (False, True, False), (False, False, False)])
def test_masks_rule_out_what_their_bits_do_not_have(vocabulary: int, constrained: tuple[bool, ...]) -> None:
    draw = np.random.default_rng(vocabulary)
    masks = draw.integers(0, 256, (3, 12), dtype=np.uint8)  # of 96 tokens: the output layer may be wider
    logits = torch.from_numpy(draw.standard_normal((3, vocabulary)).astype(np.float32))
    expected = logits.clone()
    for row, held in enumerate(constrained):
        if held:
            bits = np.unpackbits(masks[row], bitorder="little").astype(bool)
            expected[row, :96][torch.from_numpy(~bits)] = -torch.inf
            expected[row, 96:] = -torch.inf
    rows = [Row(FixedMatcher(mask) if held else None) for mask, held in zip(masks, constrained, strict=True)]
    Masks(rows, device=torch.device("cpu")).apply(logits)
    assert torch.equal(logits, expected)
