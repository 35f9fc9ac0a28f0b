"""The chat request, validated field by field. Parameters that are not fields are checked in ``parameters``."""

from __future__ import annotations

from typing import Annotated, Any

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, field_validator

from inference.api.formats import Formats, JsonSchema, ResponseFormat, StructuredOutputs
from inference.api.parameters import check_extras, check_stream_options
from inference.api.reasoning import ReasoningParameters, TemplateVariables
from inference.api.tools import FunctionDefinition, FunctionTool, NamedFunction, NamedTool, Tools
from inference.engine.types import PromptEnding, Sampling
from inference.errors import InvalidRequest
from sessions_app.models import SESSION_ID_MAX_LENGTH
from sessions_app.sse import SESSION_ID

MAX_STOP_STRINGS = 64
MAX_STOP_LENGTH = 200
MAX_STOP_TOKENS = 64
MAX_BIASED_TOKENS = 1024
MAX_TOP_LOGPROBS = 20
#: limit of top_k and token ids: above any vocabulary, and within the range of the engine's tensors
MAX_TOKEN_ID = 2**31 - 1

TokenId = Annotated[StrictInt, Field(ge=0, le=MAX_TOKEN_ID)]
_REFERENCE = "#/components/schemas/{model}"


class Message(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: StrictStr = Field(description="`system`, `developer`, `user`, `assistant` or `tool`.")
    content: StrictStr | Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = Field(
        None,
        description="A text, or a list of parts: `text`, `image_url`, `input_image`, `video_url`, `input_video`. "
        "Images and videos are given by http(s) URL, data URL or bare base64.",
    )
    name: StrictStr | None = Field(
        None, description="Who speaks, for models whose chat template writes names. Others never see it."
    )


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="allow")

    include_usage: StrictBool = Field(False, description="Send one more event, before `[DONE]`, with the token counts.")


# pydantic's own base class: ninja's reads through attributes and loses undeclared fields.
class ChatCompletionRequest(Formats, ReasoningParameters, Tools):
    """OpenAI's chat request, with vLLM's sampling parameters and ``session_id`` beside it."""

    model_config = ConfigDict(extra="allow")

    messages: Annotated[list[Message], Field(fail_fast=True)] | None = Field(
        None,
        max_length=settings.MAX_MESSAGES,
        description="The conversation, oldest turn first. Required, but for a resume with Last-Event-ID.",
    )
    model: StrictStr | None = Field(None, description="The served model's id (see /v1/models), or nothing.")
    stream: StrictBool | None = Field(
        None, description="true: server-sent events as the answer grows. Otherwise one JSON object when it is complete."
    )
    stream_options: StreamOptions | None = Field(None, description="Only with stream: true.")
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None,
        description="Tokens to generate at most, reasoning included. "
        f"Default {settings.MAX_TOKENS} for the answer, and {settings.MAX_REASONING_TOKENS} for a thought before it. "
        f"More than {settings.MAX_TOKENS_LIMIT}, or than the model's context has room for, counts as so many.",
    )
    max_completion_tokens: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="OpenAI's newer name of max_tokens. Send one of the two."
    )
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = Field(
        None,
        description="0 to 2. 0 always takes the likeliest token; higher is more varied. "
        f"Default {settings.TEMPERATURE:g} on this server.",
    )
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None,
        description="0 to 1: choose only among the likeliest tokens that together have this probability. "
        "0: only the likeliest. Default 1, all of them.",
    )
    top_k: Annotated[StrictInt, Field(ge=-1, le=MAX_TOKEN_ID)] | None = Field(
        None, description="Choose only among so many of the likeliest tokens. -1, 0 or nothing: all of them."
    )
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None,
        description="0 to 1: choose only among tokens that have at least this part of the likeliest one's probability. "
        "Default 0, all of them.",
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = Field(
        None,
        description="-2 to 2: taken from the logit of every token that the answer has had already. Default 0.",
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = Field(
        None, description="-2 to 2: taken from a token's logit for each time that the answer has had it. Default 0."
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)] | None = Field(
        None,
        description="0.01 to 100; above 1 makes every token less likely that prompt or answer have had: "
        "a logit above 0 is divided by it, one below 0 multiplied. Default 1.",
    )
    logit_bias: dict[StrictStr, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = Field(
        None,
        max_length=MAX_BIASED_TOKENS,
        description="Token ids, as strings, with -100 to 100 that is added to their logits. "
        f"At most {MAX_BIASED_TOKENS}. An id that the model does not have is refused.",
    )
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = Field(
        None,
        description="A whole number of 64 bits: the same request with the same seed draws the same. Else by chance.",
    )
    stop: StrictStr | Annotated[list[StrictStr], Field(fail_fast=True)] | None = Field(
        None,
        description=f"A text, or up to {MAX_STOP_STRINGS}, of 1 to {MAX_STOP_LENGTH} characters each. "
        "The answer ends before the first of them that comes up.",
    )
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True)] | None = Field(
        None,
        max_length=MAX_STOP_TOKENS,
        description=f"Up to {MAX_STOP_TOKENS} token ids that end the answer, also with ignore_eos. "
        "They are not part of the text. An id that the model does not have is refused.",
    )
    allowed_token_ids: Annotated[list[TokenId], Field(fail_fast=True)] | None = Field(
        None,
        min_length=1,
        max_length=MAX_BIASED_TOKENS,
        description=f"1 to {MAX_BIASED_TOKENS} token ids: no others come. The one that ends the answer must be among "
        "them, or the answer ends at its limit. An id that the model does not have is refused.",
    )
    bad_words: Annotated[list[StrictStr], Field(fail_fast=True)] | None = Field(
        None,
        max_length=MAX_STOP_STRINGS,
        description=f"Up to {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_LENGTH} characters that do not come, as the "
        "tokenizer spells them alone and behind a space. The model may find another spelling.",
    )
    min_tokens: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="Tokens before which the answer does not end by itself; not above max_tokens. Default 0."
    )
    ignore_eos: StrictBool | None = Field(
        None, description="true: go on when the model says that it has finished, up to max_tokens. For measurements."
    )
    logprobs: StrictBool | None = Field(
        None,
        description="true: say of every token how likely the model itself found it: before bias, penalties, "
        "temperature and cuts.",
    )
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = Field(
        None,
        description=f"With logprobs: so many of the likeliest tokens in each place too, at most {MAX_TOP_LOGPROBS}.",
    )
    add_generation_prompt: StrictBool | None = Field(
        None, description="false: open no turn of the model; the prompt ends with the last message. Default true."
    )
    continue_final_message: StrictBool | None = Field(
        None,
        description="true: the last message, which is the assistant's, is the beginning of the answer and goes on. "
        "add_generation_prompt is false then.",
    )
    echo: StrictBool | None = Field(
        None, description="true: show the last message, which is the assistant's, as the beginning of the answer."
    )
    n: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None,
        description=f"So many answers at once, at most {settings.MAX_CHOICES} on this server. Default 1. "
        "The first is the one that n: 1 gives with the same seed.",
    )
    session_id: Annotated[StrictStr, Field(pattern=rf"^{SESSION_ID.pattern}$")] | None = Field(
        None,
        validation_alias=settings.SESSION_ID_FIELD,
        description="Opens a session under this id, or attaches to the one that has it (with another request: 409). "
        f"Up to {SESSION_ID_MAX_LENGTH} letters, digits, `_`, `.` and `-`; the first a letter, a digit or `_`. Whoever "
        "knows it can read and cancel the session. Left out, the server makes one: see the header X-Session-ID.",
    )

    @field_validator("response_format")
    @classmethod
    def _text_asks_for_nothing(cls, value: ResponseFormat | None) -> ResponseFormat | None:
        return None if value is None or value.type == "text" else value

    @field_validator("logprobs", mode="before")
    @classmethod
    def _is_no_count(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError("must be true or false in a chat; top_logprobs sets the number of alternatives")
        return value

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """Raise for what pydantic cannot see: refused parameters, and fields that contradict each other."""
        check_extras(self.model_extra or {})
        self.check_reasoning()
        if self.stream_options is not None:
            if not self.stream:
                raise InvalidRequest("stream_options needs stream: true.", param="stream_options")
            check_stream_options(self.stream_options.model_extra or {})
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise InvalidRequest("max_tokens and max_completion_tokens differ. Send one.", param="max_tokens")
        if (self.min_tokens or 0) > (most := self._max_tokens()):
            raise InvalidRequest(f"min_tokens is above max_tokens ({most}).", param="min_tokens")
        asked, use = self.asked_format(), self.tool_use
        holder = asked[1] if asked is not None else "tool_choice" if use is not None and use.is_constrained else None
        for name in ("min_tokens", "ignore_eos"):
            if holder is not None and getattr(self, name):
                raise InvalidRequest(
                    f"{name} cannot be combined with {holder}, which already decides when the answer ends.", param=name
                )
        for name in ("allowed_token_ids", "bad_words", "continue_final_message"):
            if holder is not None and getattr(self, name):
                raise InvalidRequest(
                    f"{name} cannot be combined with {holder}, which already decides which tokens are allowed.",
                    param=name,
                )
        stops = self._stops()
        if len(stops) > MAX_STOP_STRINGS or not all(0 < len(stop) <= MAX_STOP_LENGTH for stop in stops):
            raise InvalidRequest(
                f"stop takes up to {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_LENGTH} characters.", param="stop"
            )
        if not all(_is_storable(stop) for stop in stops):
            raise InvalidRequest("stop contains a NUL character or half of a surrogate pair.", param="stop")

        if not all(0 < len(word) <= MAX_STOP_LENGTH and _is_storable(word) for word in self.bad_words or ()):
            raise InvalidRequest(
                f"bad_words takes texts of 1 to {MAX_STOP_LENGTH} characters, without NUL and half surrogate pairs.",
                param="bad_words",
            )
        if self.bad_words and self.allowed_token_ids:
            raise InvalidRequest("bad_words and allowed_token_ids cannot be combined.", param="bad_words")
        self._check_ending()
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true.", param="top_logprobs")
        if (self.n or 1) > settings.MAX_CHOICES:
            raise InvalidRequest(
                f"n is too large: this server gives at most {settings.MAX_CHOICES} answers at once.", param="n"
            )
        biases = self.logit_bias or {}
        if len(biases) > MAX_BIASED_TOKENS or not all(_is_token_id(token) for token in biases):
            raise InvalidRequest(
                f'logit_bias takes up to {MAX_BIASED_TOKENS} token ids, written like "1234".', param="logit_bias"
            )

    def sampling(self, *, seed: int) -> Sampling:
        """How to sample: the request's parameters, this server's defaults for the rest, and ``seed`` if it has none."""
        return Sampling(
            max_tokens=self._max_tokens(),
            temperature=settings.TEMPERATURE if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=seed if self.seed is None else self.seed,
            stop=self._stops(),
            min_tokens=self.min_tokens or 0,
            ignore_eos=bool(self.ignore_eos),
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            allowed_token_ids=tuple(dict.fromkeys(self.allowed_token_ids or ())),
            bad_words=tuple(dict.fromkeys(self.bad_words or ())),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.reasoning_sampling(has_limit=bool(self.max_completion_tokens or self.max_tokens)),
        )

    def ending(self) -> PromptEnding:
        """How the prompt ends."""
        if self.continue_final_message:
            return "inside"
        return "message" if self.add_generation_prompt is False else "turn"

    def _check_ending(self) -> None:
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt contradict each other.", param="add_generation_prompt"
            )
        for name in ("continue_final_message", "echo"):
            if getattr(self, name) and self.messages and self.messages[-1].role != "assistant":
                raise InvalidRequest(f"{name} needs the last message to have the role assistant.", param=name)

    def _max_tokens(self) -> int:
        asked = self.max_completion_tokens or self.max_tokens or settings.MAX_TOKENS
        return min(asked, int(settings.MAX_TOKENS_LIMIT))

    def _stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The reference to ``model`` in ``/openapi.json``; ``component_schemas`` has its target."""
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def component_schemas(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schemas of ``model`` and of the models that it refers to, by name."""
    schema = model.model_json_schema(ref_template=_REFERENCE)
    return {**schema.pop("$defs", {}), model.__name__: schema}


#: names of a request's fields; every other name in pydantic's errors is pydantic's own
FIELD_NAMES = {
    str(field.validation_alias or name)
    for model in (
        *(ChatCompletionRequest, Message, StreamOptions, TemplateVariables),
        *(ResponseFormat, JsonSchema, StructuredOutputs),
        *(FunctionTool, FunctionDefinition, NamedTool, NamedFunction),
    )
    for name, field in model.model_fields.items()
}


def _is_token_id(text: str) -> bool:
    """Whether ``text`` is a canonical decimal id, so that no id occurs twice."""
    return text.isascii() and text.isdigit() and len(text) <= 10 and str(int(text)) == text


def _is_storable(text: str) -> bool:
    """Whether ``text`` has neither NUL nor surrogates, which PostgreSQL's JSON cannot store and no model writes."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
