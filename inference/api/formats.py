"""The format that a request wants for its answer: OpenAI's ``response_format``, and vLLM's parameters."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from inference.engine.types import Constraint
from inference.errors import InvalidRequest, UnsupportedParameter

MAX_CHOICE_TEXTS = 1000

Schema = dict[StrictStr, Any]
Choices = Annotated[list[StrictStr], Field(min_length=1, max_length=MAX_CHOICE_TEXTS, fail_fast=True)]
_SCHEMA = "A JSON schema, as an object or as its text."
_REGEX = "A regular expression that the whole answer matches. Without look-around and back references."
_CHOICES = "The answer is one of these texts."
_GRAMMAR = "A grammar in Lark's notation or in llama.cpp's (GBNF)."


class JsonSchema(BaseModel):
    """A schema with a name, as OpenAI wants it."""

    name: StrictStr | None = Field(None, description="For the caller's own use.")
    description: StrictStr | None = Field(None, description="For the caller's own use.")
    # ``schema`` is the name of a method of pydantic.
    schema_: Schema = Field(alias="schema", description="A JSON schema. A keyword that cannot be enforced is refused.")
    strict: StrictBool | None = Field(None, description="The schema is enforced either way.")


class ResponseFormat(BaseModel):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="`text` asks for nothing.")
    json_schema: JsonSchema | None = Field(None, description="With type `json_schema`.")


class StructuredOutputs(BaseModel):
    """The form of the answer, by vLLM's names. One of them."""

    model_config = ConfigDict(extra="allow")

    choice: Choices | None = Field(None, description=_CHOICES)
    regex: StrictStr | None = Field(None, description=_REGEX)
    json_: Schema | StrictStr | None = Field(None, alias="json", description=_SCHEMA)
    json_object: StrictBool | None = Field(None, description="Any JSON object.")
    grammar: StrictStr | None = Field(None, description=_GRAMMAR)


class Formats(BaseModel):
    """The parameters of a request that say what form its answer has. One of them may ask for something."""

    response_format: ResponseFormat | None = Field(
        None,
        description="The answer is JSON: any object (`json_object`) or one of a schema (`json_schema`). Enforced while "
        "it is written; one that is cut off (`finish_reason: length`) is incomplete.",
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="vLLM's parameter for the format of the answer."
    )
    guided_json: Schema | StrictStr | None = Field(None, description=f"vLLM's older parameter. {_SCHEMA}")
    guided_regex: StrictStr | None = Field(None, description=f"vLLM's older parameter. {_REGEX}")
    guided_choice: Choices | None = Field(None, description=f"vLLM's older parameter. {_CHOICES}")
    guided_grammar: StrictStr | None = Field(None, description=f"vLLM's older parameter. {_GRAMMAR}")

    def asked_format(self) -> tuple[Constraint, str] | None:
        """The constraint on the answer, and the name of its parameter; None without one. Raises InvalidRequest."""
        wanted = [wanted for wanted in self._wanted() if wanted[1] is not None]
        if len(wanted) > 1:
            names = " and ".join(name for name, _, _ in wanted)
            raise InvalidRequest(f"{names} both set the format of the answer. Send one of them.", param=wanted[1][0])
        return (_constraint(*wanted[0]), wanted[0][0]) if wanted else None

    def wire_format(self) -> dict[str, Any] | None:
        """The same parameters unchanged, for an upstream."""
        sent = self.model_dump(include=set(Formats.model_fields), exclude_unset=True, exclude_none=True, by_alias=True)
        return sent or None

    def _wanted(self) -> list[tuple[str, Any, str]]:
        """(name, value or None, kind of constraint) for each parameter."""
        wanted: list[tuple[str, Any, str]] = [
            ("guided_json", self.guided_json, "json_schema"),
            ("guided_regex", self.guided_regex, "regex"),
            ("guided_choice", self.guided_choice, "choice"),
            ("guided_grammar", self.guided_grammar, "grammar"),
        ]
        if (asked := self.structured_outputs) is not None:
            for name, value in (asked.model_extra or {}).items():
                if value not in (None, False):
                    param = f"structured_outputs.{name[:64]}"
                    raise UnsupportedParameter(f"{param} is not supported by this server. Leave it out.", param=param)
            wanted += [
                ("structured_outputs.choice", asked.choice, "choice"),
                ("structured_outputs.regex", asked.regex, "regex"),
                ("structured_outputs.json", asked.json_, "json_schema"),
                ("structured_outputs.json_object", asked.json_object or None, "json_object"),
                ("structured_outputs.grammar", asked.grammar, "grammar"),
            ]
        match self.response_format:
            case ResponseFormat(type="json_object"):
                wanted.append(("response_format", True, "json_object"))
            case ResponseFormat(type="json_schema", json_schema=JsonSchema(schema_=schema)):
                wanted.append(("response_format", schema, "json_schema"))
            case ResponseFormat(type="json_schema"):
                raise InvalidRequest("json_schema is missing.", param="response_format.json_schema")
        return wanted


def _constraint(param: str, value: Any, kind: Any) -> Constraint:
    """Raises InvalidRequest for a source that is too large, or not JSON."""
    source = value if isinstance(value, str) else "" if kind == "json_object" else _as_json(value, param)
    try:
        size = len(source.encode())
    except UnicodeEncodeError as exc:
        raise InvalidRequest(
            f"{param} contains half of a surrogate pair, which is not valid Unicode.", param=param
        ) from exc
    if size > settings.MAX_GRAMMAR_BYTES:
        raise _too_large(param)
    if "\0" in source:
        raise InvalidRequest(f"{param} contains a NUL character.", param=param)
    if kind == "json_schema" and isinstance(value, str):
        try:
            source = json.dumps(json.loads(source))
        except (ValueError, RecursionError) as exc:
            raise InvalidRequest(f"{param} is not JSON.", param=param) from exc
    return Constraint(kind, source)


def _as_json(value: Any, param: str) -> str:
    try:
        return json.dumps(value)
    except TypeError as exc:  # a text so long that it was kept as an InlineText
        raise _too_large(param) from exc


def _too_large(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is larger than {settings.MAX_GRAMMAR_BYTES} bytes.", param=param)
