"""The grammar of answers that call tools, in Lark's notation, for the format that ``tool_calls`` parses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: the schema of a function's arguments where its own schema is not enforced
ANY_OBJECT: dict[str, Any] = {"type": "object"}


def calls_source(
    schemas: Mapping[str, Mapping[str, Any]], *, is_required: bool, one_call: bool, answer: Any = None
) -> str:
    """The source of a constraint of kind ``calls``.

    ``schemas`` maps the names of the functions to the schemas of their arguments. Unless calls are required, the answer
    may be any text instead of them or around them; with ``answer``, a JSON schema, it is JSON of that schema or calls.
    """
    asked = {"schemas": schemas, "is_required": is_required, "one_call": one_call, "answer": answer}
    return json.dumps(asked)


def calls_grammar(source: str, options: Mapping[str, Any], *, tags: tuple[int, int]) -> str:
    """The grammar of a source from ``calls_source``.

    ``options`` are llguidance's for JSON schemas, ``tags`` the ids of the tokens that begin and end a call.
    """
    asked = json.loads(source)
    calls = "call" if asked["one_call"] else 'call ("\\n" call)*'
    rules = _calls(asked["schemas"], options, *tags)
    if asked["is_required"]:
        rules.insert(0, f"start: {calls}")
    elif asked["answer"] is not None:
        rules = [f"start: answer | {calls}", f"answer: {_json(asked['answer'], options)}", *rules]
    else:
        # Text contains no control token, and a call begins with one.
        rules = ["start: TEXT (call TEXT)*", "TEXT: /(.|\\n)*/", *rules]
    return "\n".join(rules)


def _calls(schemas: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any], begin: int, end: int) -> list[str]:
    rules = [f'call: <[{begin}]> "\\n" ({" | ".join(f"call_{i}" for i in range(len(schemas)))}) "\\n" <[{end}]>']
    for i, (name, schema) in enumerate(schemas.items()):
        # The same format as the template uses for earlier calls, which the model continues.
        head = f'{{"name": {json.dumps(name)}, "arguments": '
        # A separate schema for each function: its references are resolved within it.
        rules += [f'call_{i}: {json.dumps(head)} args_{i} "}}"', f"args_{i}: {_json(schema, options)}"]
    return rules


def _json(schema: Any, options: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': dict(options)} if isinstance(schema, dict) else schema)}"
