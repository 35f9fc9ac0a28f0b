"""Which functions a request lets the answer call: OpenAI's ``tools``, ``tool_choice`` and ``parallel_tool_calls``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from inference.errors import InvalidRequest
from inference.message_text import is_storable

#: OpenAI's limit
MAX_TOOLS = 128
MAX_NAME_LENGTH = 64
NAME = rf"^[A-Za-z0-9_.-]{{1,{MAX_NAME_LENGTH}}}$"
#: maximum nesting of objects in the schema of a function
MAX_DEPTH = 64
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
    """Which functions an answer may or must call."""

    #: the functions offered to the model, in the format of its chat template
    tools: Sequence[dict[str, Any]]
    #: the answer consists of calls
    is_required: bool
    #: the answer ends after its first call
    one_call: bool
    #: names of the functions whose schema must be enforced on their arguments
    strict: frozenset[str]

    @property
    def is_constrained(self) -> bool:
        """Whether the answer is constrained by a grammar."""
        return self.is_required or bool(self.strict)


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
        None, description="false: the answer ends after its first call. Default true."
    )

    def wire_tools(self) -> dict[str, Any] | None:
        """The same parameters unchanged, for an upstream."""
        if not self.tools:
            return None  # OpenAI refuses an empty list, and the others without it
        return self.model_dump(include=set(Tools.model_fields), exclude_unset=True, exclude_none=True)

    @functools.cached_property
    def tool_use(self) -> ToolUse | None:
        """None if the answer cannot call any function. Raises InvalidRequest."""
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
            at = f"tools[{place}].function"
            if function.parameters is not None and function.parameters.get("type", "object") != "object":
                raise InvalidRequest("The parameters of a function must be an object.", param=f"{at}.parameters")
            if not is_storable(_told(function), depth=MAX_DEPTH):
                raise InvalidRequest(
                    "The function contains a NUL character or half of a surrogate pair, or is nested too deeply.",
                    param=at,
                )
        # If the answer must call one function, the others are not offered.
        offered = [function for function in functions if named in (None, function.name)]
        return ToolUse(
            tools=[_told(function) for function in offered],
            is_required=named is not None or self.tool_choice == "required",
            one_call=named is not None or self.parallel_tool_calls is False,
            strict=frozenset(function.name for function in offered if function.strict),
        )


def _told(function: FunctionDefinition) -> dict[str, Any]:
    parameters = function.parameters or NO_PARAMETERS
    said = {"name": function.name, "description": function.description or "", "parameters": parameters}
    return {"type": "function", "function": said}
