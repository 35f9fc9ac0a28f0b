"""With random weights, whatever the schema: an answer is valid, or its request is refused before the run.

Some schemas in the suite; ``TESTS_SCHEMAS=500`` draws more, which takes some minutes.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import json
import os
import re
from typing import Any

import jsonschema

from inference.engine import grammar_check
from inference.engine.types import Constraint
from tests.schemas_drawn import Schema, drawn_schemas

SCHEMAS = int(os.environ.get("TESTS_SCHEMAS", "40"))
#: tokens; an answer to these schemas is shorter, but for a number whose digits go on
MAX_TOKENS = 700
SAMPLINGS: list[dict[str, Any]] = [{}, {"temperature": 1.0}]


#: those that the JSON schemas of today have; "time" was another in an early draft
FORMATS = copy.deepcopy(jsonschema.Draft202012Validator.FORMAT_CHECKER)


@FORMATS.checks("date")
def is_date(value: object) -> bool:
    """RFC 3339 has a year 0, Python has none."""
    try:
        datetime.date.fromisoformat(re.sub("^0000", "0400", str(value)))
    except ValueError:
        return False
    return True


def is_valid(text: str, schema: Schema) -> bool:
    return bool(jsonschema.Draft202012Validator(schema, format_checker=FORMATS).is_valid(json.loads(text)))


def test_every_answer_is_valid_or_its_request_is_refused(
    loaded: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(max_batch_size=16)
    # A model of random weights seldom ends anything by itself.
    ends = tuple((loaded.tokenizer.encode(text)[0], 4.0) for text in ('"', "}", "]", ","))
    outcomes: collections.Counter[str] = collections.Counter()
    running = []
    for number, schema in enumerate(drawn_schemas(SCHEMAS)):
        constraint, problem = grammar_check.check(Constraint("json_schema", json.dumps(schema)))
        outcomes["refused" if problem else "run"] += 1
        for sampling in [] if problem else SAMPLINGS:
            request = make_request(max_tokens=MAX_TOKENS, seed=number, logit_bias=ends, **sampling)
            running.append((schema, engine.submit(dataclasses.replace(request, constraint=constraint))))
    wrong = []
    for schema, handle in running:
        answer = collect(handle)
        outcomes[answer.finish.reason] += 1
        if answer.finish.reason == "stop" and not is_valid(answer.text, schema):
            wrong.append((answer.text, schema))
    assert wrong == []
    # That a schema is refused, or an answer cut, is the exception.
    assert outcomes["refused"] <= 0.3 * SCHEMAS
    assert outcomes["length"] <= 0.05 * len(running)
