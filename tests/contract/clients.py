"""The clients: which cases each of them does, how it names errors, and what it cannot do and why."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tests.contract.environments import PINS

#: what every client is asked for, unless it cannot
CASES = {
    "chat": "a whole answer with its token counts",
    "stream": "the same text in pieces",
    "tool_loop": "a call that is required, its result, and the answer",
    "stream_call": "a call in pieces",
    "parallel_calls": "several calls in one answer",
    "parse": "an answer by a nested schema, as an object",
    "stream_parse": "the same, growing",
    "logprobs": "log probabilities",
    "thinking": "reasoning on, off and with a budget",
    "vision": "an image",
    "errors": "an unknown model, a bad value and a wrong key, as the client's own exceptions",
    "retry": "a 429 and a 503, tried again after `Retry-After`",
    "resume": "a stream that goes on after `Last-Event-ID`",
}
#: what single clients are asked for besides
OWN_CASES = {
    "forced_call": "a call that is required, as an object",
    "offered_tool": "an answer beside a function that need not be called",
    "thoughtful_loop": "`tool_loop` with a model that thinks, which gets its own reasoning back",
    "router": "a router that serves on after a request was refused",
}


@dataclass(frozen=True)
class Errors:
    """The types of the exceptions for an unknown model (404), a bad value (400) and a wrong key (401)."""

    unknown_model: str = "NotFoundError"
    bad_value: str = "BadRequestError"
    wrong_key: str = "AuthenticationError"
    #: whether they have the status too
    with_status: bool = True

    @classmethod
    def all(cls, name: str, *, with_status: bool = True) -> Errors:
        return cls(name, name, name, with_status)


@dataclass(frozen=True)
class Client:
    """One client in one version."""

    #: the name of its environment
    name: str
    #: for people
    title: str
    #: its package, whose pin is the version
    package: str
    #: in ``scripts/``; of a JavaScript client it ends in .mjs
    script: str
    #: case → why it is not asked for it
    cannot: dict[str, str] = field(default_factory=dict)
    #: of ``OWN_CASES``
    also: tuple[str, ...] = ()
    errors: Errors = Errors()
    #: what of ``thinking`` it does less than others ("reasoning", "budget") → in words
    hides: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> list[str]:
        return [case for case in CASES if case not in self.cannot] + list(self.also)

    @property
    def version(self) -> str:
        """As pinned."""
        pins = PINS / self.name
        if self.script.endswith(".mjs"):
            return str(json.loads((pins / "package.json").read_text())["dependencies"][self.package])
        found = re.search(rf"^{re.escape(self.package)}==(\S+)", (pins / "requirements.txt").read_text(), re.MULTILINE)
        assert found, f"{self.package} is not pinned in {pins}"
        return found[1]


CLIENTS = [
    *(
        Client(name=f"openai-python-{major}", title="openai (Python)", package="openai", script="with_openai.py")
        for major in (1, 2, 3)
    ),
    *(
        Client(name=f"openai-js-{major}", title="openai (JavaScript)", package="openai", script="with_openai.mjs")
        for major in (6, 7)
    ),
    Client(
        name="langchain-python",
        title="langchain-openai (Python)",
        package="langchain-openai",
        script="with_langchain.py",
        errors=Errors("OpenAIModelNotFoundError", "OpenAIInvalidRequestError", "OpenAIAuthenticationError"),
        hides={"reasoning": "shows the number of its tokens, not its text"},
    ),
    Client(
        name="langchain-js",
        title="@langchain/openai (JavaScript)",
        package="@langchain/openai",
        script="with_langchain.mjs",
        hides={"reasoning": "shows the number of its tokens, not its text"},
    ),
    Client(name="litellm", title="litellm", package="litellm", script="with_litellm.py", also=("router",)),
    Client(
        name="llm",
        title="llm",
        package="llm",
        script="with_llm.py",
        cannot={
            "tool_loop": "cannot require a call, and random weights make none by themselves",
            "stream_call": "cannot require a call",
            "parallel_calls": "cannot require a call",
            "logprobs": "has no option for them",
            "resume": "sets headers for a model, not for a request, and no `session_id`",
        },
        also=("offered_tool",),
        hides={"reasoning": "shows the number of its tokens, not its text", "budget": "takes an effort, and no budget"},
    ),
    Client(
        name="instructor",
        title="instructor",
        package="instructor",
        script="with_instructor.py",
        cannot={
            "stream": "streams objects: see `stream_parse`",
            "tool_loop": "makes objects of calls, and sends no results",
            "parallel_calls": "always lets the model decide, and random weights make no call by themselves",
            "logprobs": "shows those of the package openai",
            "resume": "shows the streams of the package openai",
        },
        also=("forced_call",),
        errors=Errors.all("InstructorRetryException", with_status=False),
    ),
    Client(
        name="pydantic-ai",
        title="pydantic-ai",
        package="pydantic-ai-slim",
        script="with_pydantic_ai.py",
        also=("forced_call", "thoughtful_loop"),
        errors=Errors("ModelNotFoundError", "ModelRequestRejectedError", "ModelAuthenticationError"),
    ),
    Client(name="openai-agents", title="openai-agents (Python)", package="openai-agents", script="with_agents.py"),
    Client(
        name="ai-sdk",
        title="AI SDK",
        package="ai",
        script="with_ai_sdk.mjs",
        also=("thoughtful_loop",),
        cannot={"logprobs": "@ai-sdk/openai-compatible shows none"},
        errors=Errors.all("APICallError"),
    ),
]
