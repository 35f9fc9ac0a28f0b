"""Which functions a request lets the answer call: OpenAI's ``tools``, ``tool_choice`` and ``parallel_tool_calls``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from inference.errors import InvalidRequest, UnsupportedParameter

#: OpenAI's limit
MAX_TOOLS = 128
MAX_NAME_LENGTH = 64
NAME = rf"^[A-Za-z0-9_.-]{{1,{MAX_NAME_LENGTH}}}$"
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


class FunctionDefinition(BaseModel):
    """A function of the caller's that the model may ask for."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[StrictStr, Field(pattern=NAME)] = Field(
        description=f"Up to {MAX_NAME_LENGTH} letters, digits, `_`, `.` and `-`."
    )
    description: StrictStr | None = Field(None, description="What it does, for the model.")
    parameters: dict[StrictStr, Any] | None = Field(None, description="A JSON schema of its arguments, an object.")
    strict: StrictBool | None = Field(
        None, description="true: the arguments are valid by the schema. Refused where the schema cannot be enforced."
    )


class FunctionTool(BaseModel):
    """A tool. Functions are the only kind that is served."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(BaseModel):
    """The name of a function."""

    name: StrictStr


class NamedTool(BaseModel):
    """The function that has to be called."""

    type: Literal["function"]
    function: NamedFunction


@dataclasses.dataclass(frozen=True, slots=True)
class ToolUse:
    """What an answer may and must do with functions."""

    #: those that the model is told of, as its chat template takes them
    tools: Sequence[dict[str, Any]]
    #: the answer consists of calls
    is_required: bool
    #: the answer ends behind its first call
    one_call: bool
    #: the functions whose arguments are held to their schema
    strict: frozenset[str]


class Tools(BaseModel):
    """The parameters of a request about functions."""

    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = Field(
        None, description=f"Up to {MAX_TOOLS} functions that the answer may call. The model's template must know tools."
    )
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None,
        description="`auto` (the default with tools): the model decides. `none`: it calls none, and is told of none. "
        "`required`: it calls one or more. A function by its name: it calls that one, once.",
    )
    parallel_tool_calls: StrictBool | None = Field(
        None, description="false: the answer ends behind its first call. Default true."
    )

    def tool_use(self) -> ToolUse | None:
        """None where the answer can call nothing. Raises InvalidRequest."""
        functions = [tool.function for tool in self.tools or ()]
        names = [function.name for function in functions]
        if not functions or self.tool_choice == "none":
            if self.tool_choice not in (None, "none", "auto"):
                raise InvalidRequest("tool_choice needs tools.", param="tool_choice")
            return None
        if len(set(names)) < len(names):
            raise InvalidRequest("Two tools have the same name.", param="tools")
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        if named is not None and named not in names:
            raise InvalidRequest("tool_choice names a function that is not among the tools.", param="tool_choice")
        for place, function in enumerate(functions):
            if function.parameters is not None and function.parameters.get("type", "object") != "object":
                raise InvalidRequest(
                    "The parameters of a function are an object.", param=f"tools[{place}].function.parameters"
                )
        # Whoever has to call one function has no use for the others.
        offered = [function for function in functions if named in (None, function.name)]
        return ToolUse(
            tools=[_told(function) for function in offered],
            is_required=named is not None or self.tool_choice == "required",
            one_call=named is not None or self.parallel_tool_calls is False,
            strict=frozenset(function.name for function in offered if function.strict),
        )


def _told(function: FunctionDefinition) -> dict[str, Any]:
    said = {"name": function.name, "description": function.description or "", "parameters": function.parameters}
    return {"type": "function", "function": {**said, "parameters": function.parameters or NO_PARAMETERS}}


def refuse_other_kinds(tools: Any) -> None:
    """Raises UnsupportedParameter for tools that OpenAI runs itself, before they are looked at closer."""
    for place, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise UnsupportedParameter(
                f"Tools of type '{kind[:40]}' are not supported: only functions, which the caller runs.",
                param=f"tools[{place}].type",
            )
