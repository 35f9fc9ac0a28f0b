"""JSON schemas of all kinds, drawn by hypothesis: most can be enforced, some cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Schema = dict[str, Any]

#: names with quotes, escapes and other scripts among them
NAMES = st.sampled_from(["a", "nama", "tempat_lahir", "x y", 'k"q', "back\\slash", "é", "名前", "", "a.b", "$ref2"])
TEXTS = st.sampled_from(
    ["", "a", "ya", "BELUM KAWIN", 'q"q', "\\", "\n", "é", "ß/x", "日本", "😀", "</think>", "<|im_end|>"]
)
PATTERNS = ["^[0-9]{4}$", "^[A-Z]{1,5}(-[0-9]{2})?$", "^(ya|tidak)?$", "a", r"^\d+$", "^[^a-z]{3}$", r"^\w{2,6}$", "x$"]
FORMATS = ["date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "duration", "hostname", "uri"]
#: of each, what cannot be enforced, or not together with the rest
UNSUPPORTED: list[Schema] = [
    {"uniqueItems": True},
    {"not": {"type": "null"}},
    {"if": {"type": "string"}, "then": {"minLength": 3}},
    {"contains": {"type": "null"}},
    {"propertyNames": {"pattern": "^a"}},
    {"dependentRequired": {"a": ["b"]}},
    {"unevaluatedProperties": False},
    {"format": "nik"},
    {"pattern": "(?=a)"},
    {"oneOf": [{"type": "string"}, {"minLength": 2}]},
]
ANNOTATIONS: list[Schema] = [{}, {"title": "T"}, {"description": "d", "default": 1}, {"examples": [1]}, {"x-own": {}}]


def _bounded(smallest: int, largest: int) -> st.SearchStrategy[tuple[int, int]]:
    numbers = st.integers(smallest, largest)
    return st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))


def _leaves() -> st.SearchStrategy[Schema]:
    values = st.one_of(TEXTS, st.integers(-99, 99), st.booleans(), st.none(), st.just(1.5))
    return st.one_of(
        _bounded(0, 12).map(lambda b: {"type": "string", "minLength": b[0], "maxLength": b[1]}),
        st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 12}),
        st.sampled_from(FORMATS).map(lambda format_: {"type": "string", "format": format_}),
        _bounded(-(10**6), 10**6).map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[1]}),
        _bounded(-50, 50).map(
            lambda b: {"type": "integer", "exclusiveMinimum": b[0] - 2, "exclusiveMaximum": b[1] + 2}
        ),
        st.sampled_from([2, 5, 7]).map(lambda m: {"type": "integer", "minimum": -40, "maximum": 90, "multipleOf": m}),
        _bounded(-9, 9).map(lambda b: {"type": "number", "minimum": b[0] - 0.5, "maximum": b[1] + 0.25}),
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["null", "boolean"]}]),
        st.lists(values, min_size=1, max_size=4, unique_by=repr).map(lambda found: {"enum": found}),
        values.map(lambda value: {"const": value}),
    )


def _around(members: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    @st.composite
    def objects(draw: st.DrawFn) -> Schema:
        properties = draw(st.dictionaries(NAMES, members, max_size=4))
        required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        more = draw(st.sampled_from([False, False, False, {"type": "boolean"}]))
        return schema | {"additionalProperties": more} | ({"maxProperties": 6} if more else {})

    return st.one_of(
        objects(),
        st.tuples(members, _bounded(0, 3)).map(
            lambda drawn: {"type": "array", "items": drawn[0], "minItems": drawn[1][0], "maxItems": drawn[1][1]}
        ),
        st.lists(members, min_size=1, max_size=3).map(
            lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        ),
        st.lists(members, min_size=1, max_size=3).map(lambda found: {"anyOf": found}),
        members.map(lambda member: {"allOf": [member, {"description": "d"}]}),
        st.tuples(members, st.sampled_from(ANNOTATIONS)).map(lambda drawn: {**drawn[1], **drawn[0]}),
        st.just({"$ref": "#/$defs/shared"}),
        st.tuples(members, st.integers(0, 14), st.sampled_from(UNSUPPORTED)).map(
            lambda drawn: {**drawn[0], **drawn[2]} if drawn[1] == 0 else drawn[0]
        ),
    )


def drawn_schemas(count: int) -> Sequence[Schema]:
    """So many schemas, the same each time."""
    found: list[Schema] = []

    @seed(14)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        schema=st.recursive(_leaves(), _around, max_leaves=8),
        shared=_leaves(),
    )
    def draw(schema: Schema, shared: Schema) -> None:
        found.append({**schema, "$defs": {"shared": shared}})

    draw()
    return found
