"""The JSON schema of the model's answer, with patterns for the values that have a fixed format.

Every value may be empty, and no pattern requires a minimum length: if only fifteen digits of a NIK can be read, the
value has fifteen, and the checks say that one is missing.
"""

from __future__ import annotations

import json
from typing import Any

from inference.engine.types import Constraint
from ocr.reading.schema import FIELDS, MAX_VALUE_CHARS

PATTERNS = {
    "nik": "^[0-9]{0,16}$",
    # A date, or the beginning of one.
    "tgl_lahir": "^([0-9]{0,2}|[0-9]{2}-[0-9]{0,2}|[0-9]{2}-[0-9]{2}-[0-9]{0,4})$",
    # Either part may be a dash.
    "alamat.rt_rw": "^([0-9]{0,3}|-)(/([0-9]{0,3}|-))?$",
}


def _schema() -> dict[str, Any]:
    schema = _object()
    for field in FIELDS:
        parent, dot, leaf = field.path.partition(".")
        members = schema
        if dot:
            members = schema["properties"].setdefault(parent, _object())
            if parent not in schema["required"]:
                schema["required"].append(parent)
        pattern = PATTERNS.get(field.path)
        value = {"pattern": pattern} if pattern else {"maxLength": MAX_VALUE_CHARS}
        members["properties"][leaf or parent] = {"type": "string", **value}
        members["required"].append(leaf or parent)
    return schema


def _object() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


SCHEMA = _schema()
CONSTRAINT = Constraint("json_schema", json.dumps(SCHEMA))
#: the same as OpenAI's parameter, for an upstream
WIRE_FORMAT: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "ktp", "strict": True, "schema": SCHEMA}}
}
