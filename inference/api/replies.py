"""The schemas of responses, for ``/docs``. ``rendering`` renders chat answers without validating them against these."""

from __future__ import annotations

from typing import Literal

from ninja import Field, Schema

_ID = "`chatcmpl-` and the session's id."
_REASONING = "A thinking model's thoughts; not there where there are none."


class ErrorBody(Schema):
    message: str = Field(description="In English, for people.")
    type: str = Field(description="invalid_request_error or server_error.")
    param: str | None = Field(None, description="The field it is about, like `messages[0].content`.")
    code: str | None = Field(None, description="Stable name of the error, for programs.")


class ErrorReply(Schema):
    """What every refusal and failure looks like."""

    error: ErrorBody


class CalledFunction(Schema):
    name: str
    arguments: str = Field(description="A JSON object, as the model has written it.")


class ToolCall(Schema):
    """A call that the model asks the caller to make."""

    id: str = Field(description="Send it back as `tool_call_id` with the result.")
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Schema):
    role: Literal["assistant"]
    content: str | None = Field(description="null where the answer consists of calls.")
    tool_calls: list[ToolCall] | None = Field(None, description="Present only if the answer has calls.")
    refusal: str | None = Field(None, description="What an upstream server says instead of an answer.")
    reasoning_content: str | None = Field(None, description=_REASONING)
    reasoning: str | None = Field(None, description="The same as reasoning_content: clients read one or the other.")


class Likelihood(Schema):
    """A token, and the natural logarithm of the probability that the model itself gave it."""

    token: str = Field(description="Its text; U+FFFD for bytes that are no character by themselves.")
    logprob: float = Field(description="Before bias, penalties, temperature and cuts. At least -9999.")
    bytes: list[int] | None = Field(
        description="null for a token that is never text, such as the one that ends a turn."
    )


class TokenLikelihood(Likelihood):
    """A token of the answer."""

    top_logprobs: list[Likelihood] = Field(description="The likeliest tokens at this position, the likeliest first.")


class Logprobs(Schema):
    content: list[TokenLikelihood] = Field(
        description="All generated tokens, including reasoning and the token that ended the answer."
    )
    refusal: None = None


class AnswerChoice(Schema):
    index: int
    message: AnswerMessage
    logprobs: Logprobs | None = Field(None, description="With `logprobs: true`.")
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] = Field(
        description="stop: the model or a stop text ended it, or it was cancelled. length: max_tokens are used up. "
        "tool_calls: the answer consists of calls. "
        "content_filter: an upstream server withheld the rest."
    )


class CompletionTokensDetails(Schema):
    reasoning_tokens: int


class PromptTokensDetails(Schema):
    cached_tokens: int = Field(description="Prompt tokens that were in the prefix cache and needed no prefill.")


class Usage(Schema):
    """Counted in tokens."""

    prompt_tokens: int = Field(description="The conversation, including its images and videos.")
    completion_tokens: int = Field(description="Generated tokens, including reasoning and all choices.")
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ChatCompletion(Schema):
    """The whole answer."""

    id: str = Field(description=_ID)
    object: Literal["chat.completion"]
    created: int = Field(description="When the session was opened: seconds since 1970, UTC.")
    model: str
    choices: list[AnswerChoice] = Field(description="One for each requested answer (`n`).")
    usage: Usage
    session_id: str = Field(description="Also in the header X-Session-ID.")
    session_state: Literal["cancelled"] | None = Field(None, description="Present only if the answer was cancelled.")


class Model(Schema):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this server began to offer it: seconds since 1970, UTC.")
    owned_by: str


class ModelList(Schema):
    object: Literal["list"] = "list"
    data: list[Model]


class Cancelled(Schema):
    ok: bool
    session_id: str


class Health(Schema):
    """Whether the server answers, and whether the model does."""

    ok: bool = Field(description="The server answers and reaches its database.")
    modelReady: bool = Field(description="A worker has the model loaded.")
    modelId: str
    version: str = Field(description="Of this server.")
    error: str | None = Field(description="Why there is no model, or what the server waits for.")
    progress: str | None = Field(None, description="How far the model has loaded; absent otherwise.")
