"""What the Python clients share: what they ask, and the protocol by which the tests ask them.

A test writes a line of JSON to a client's standard input, ``{"case": …, "server": {…}}``, and reads a line: the case's
result, or the traceback of what went wrong.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

QUESTION = "Apakah hujan di Solo?"
#: random weights call twice in about one of three answers
TRIES = 40
#: tokens, more than any case's answer needs
ROOM = 600


class Exact(BaseModel):
    """With no members but its own: random weights would invent them without an end."""

    model_config = ConfigDict(extra="forbid")


class Weather(Exact):
    """The weather of a city."""

    city: Literal["Solo", "Bogor"]


class Time(Exact):
    """The time of a zone."""

    zone: Literal["WIB", "WITA", "WIT"]


class Street(Exact):
    name: str = Field(max_length=15)
    number: int = Field(ge=1, le=300)


class Person(Exact):
    name: str = Field(max_length=15)
    kind: Literal["person", "company"]
    streets: list[Street] = Field(min_length=1, max_length=2)


def function(model: type[BaseModel]) -> dict[str, Any]:
    """A tool whose arguments are those of ``model``."""
    schema = model.model_json_schema()
    about = {"name": model.__name__.lower(), "description": model.__doc__, "parameters": schema}
    return {"type": "function", "function": about}


WEATHER, TIME = function(Weather), function(Time)


@dataclass(frozen=True)
class Server:
    base_url: str
    api_key: str
    model: str
    #: data URLs of images
    red: str
    blue: str
    #: an id for a session, which no other case uses
    session_id: str


Case = Callable[[Server], Any]


def called(name: str, arguments: Any) -> dict[str, Any]:
    """A call of a function, as a case reports it."""
    return {"name": name, "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments}


def refusal_of(ask: Callable[[], Any]) -> dict[str, Any]:
    """The exception that ``ask`` raises, as a case reports it."""
    try:
        answer = ask()
    except Exception as error:
        return {"type": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}
    return {"type": "none", "status": 200, "message": repr(answer)}


def serve(cases: dict[str, Case]) -> None:
    """Answer what the test asks for until it closes standard input."""
    # Packages print at times; their texts go where the test shows them.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": cases[asked["case"]](Server(**asked["server"]))}
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
