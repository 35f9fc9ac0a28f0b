"""Parameters of a request beyond the fields of ``ChatCompletionRequest``: accepted, refused by name, or unknown.

Every parameter is honoured or refused. The two lists below hold what clients of other servers send. A name that is in
neither is refused too, as OpenAI does: a misspelt name would change nothing and nobody would notice. Operators whose
clients send other names list them in ``IGNORED_PARAMETERS``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from inference.errors import InvalidRequest, UnsupportedParameter

log = logging.getLogger(__name__)

#: maximum characters of a name in a message or a log line
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Refused:
    """A parameter that would change the answer and is not honoured."""

    #: values without effect, which are accepted
    unless: tuple[Any, ...] = ()
    #: advice on what to send instead
    instead: str = "Leave it out."

    def message(self, name: str) -> str:
        return f"{name} is not supported by this server. {self.instead}"


_LABEL = "a label for the provider's own records"
_ROUTING = "chooses among providers; here is one"
_CACHING = "a hint for caches, which work without it"
_WITH_ANOTHER = "counts only beside a parameter that is refused"
_SENDING = "says how to send, not what"

#: name → reason; accepted with any value and logged at debug, because the answer is the same with and without
HARMLESS: dict[str, str] = {
    # OpenAI
    "user": _LABEL,
    "metadata": _LABEL,
    "safety_identifier": _LABEL,
    "service_tier": _ROUTING,
    "prompt_cache_key": _CACHING,
    "prompt_cache_retention": _CACHING,
    # OpenRouter and gateways
    "provider": _ROUTING,
    "route": _ROUTING,
    "models": _ROUTING,
    "usage": "token counts are always in the whole answer, and in a stream with stream_options.include_usage",
    "cache_control": _CACHING,
    # vLLM and SGLang
    "request_id": _LABEL,
    # The id of a conversation, for clients of other servers, where this one has another name for a session's id.
    **({} if settings.SESSION_ID_FIELD == "session_id" else {"session_id": _LABEL}),
    "rid": _LABEL,
    "stream_interval": _SENDING,
    "guided_decoding_backend": "there is one",
    "separate_reasoning": "reasoning is always apart from the answer",
    "stream_reasoning": "reasoning is always streamed",
    # llama.cpp and Ollama
    "cache_prompt": _CACHING,
    "id_slot": _CACHING,
    "keep_alive": "the model stays loaded",
    "timings_per_token": _SENDING,
    "return_progress": _SENDING,
    "dynatemp_exponent": _WITH_ANOTHER,
    "mirostat_tau": _WITH_ANOTHER,
    "mirostat_eta": _WITH_ANOTHER,
    "dry_base": _WITH_ANOTHER,
    "dry_allowed_length": _WITH_ANOTHER,
    "dry_penalty_last_n": _WITH_ANOTHER,
    "dry_sequence_breakers": _WITH_ANOTHER,
    "xtc_threshold": _WITH_ANOTHER,
}

_USE_MAX_TOKENS = "Send max_tokens."
_USE_MESSAGES = "Send messages."
_USE_N = "Send n."
_USE_PENALTY = "Send repetition_penalty."
_USE_STOP = "Send stop."
_USE_EFFORT = "Send reasoning_effort or thinking_token_budget."
_USE_SWITCH = "Send chat_template_kwargs with enable_thinking."
_USE_FORMAT = "Send response_format or structured_outputs."
_USE_EFFORT = "Send reasoning_effort or thinking_token_budget."
_USE_SWITCH = "Send chat_template_kwargs with enable_thinking."

#: refused with the name in ``param``, except for values without effect; ``null`` never has one
REFUSED: dict[str, Refused] = {
    # OpenAI
    "functions": Refused(([],), "Send tools."),
    "function_call": Refused(("none", "auto"), "Send tool_choice."),
    "audio": Refused(),
    "modalities": Refused((["text"],)),
    "prediction": Refused(),
    "web_search_options": Refused(({},)),
    "store": Refused((False,), "Every session is stored for a limited time, which a request cannot extend."),
    "verbosity": Refused(("medium",), "Say in a message how long the answer should be."),
    "best_of": Refused((1,), _USE_N),
    "suffix": Refused(("",)),
    "prompt": Refused((), _USE_MESSAGES),
    "input": Refused((), _USE_MESSAGES),
    "instructions": Refused((), "Send a message of role system."),
    "system": Refused((), "Send a message of role system."),
    "extra_body": Refused(({},), "Send its members as parameters of the request itself."),
    # OpenRouter, Anthropic and other gateways
    "reasoning": Refused((), _USE_EFFORT),
    "thinking": Refused((), _USE_EFFORT),
    "plugins": Refused(([],)),
    "transforms": Refused(([],)),
    "preset": Refused(),
    "top_a": Refused((0,)),
    "stop_sequences": Refused(([],), _USE_STOP),
    "enable_thinking": Refused((), _USE_SWITCH),
    "thinking_budget": Refused((), "Send thinking_token_budget."),
    # vLLM
    "chat_template": Refused((), "The model's own template is always used."),
    "chat_template_content_format": Refused(("auto",)),
    "include_reasoning": Refused((True,)),
    "documents": Refused(([],)),
    "media_io_kwargs": Refused(({},)),
    "mm_processor_kwargs": Refused(({},)),
    "min_pixels": Refused(),
    "max_pixels": Refused(),
    "add_special_tokens": Refused((False,)),
    "truncate_prompt_tokens": Refused(),
    "prompt_logprobs": Refused(),
    "length_penalty": Refused((1,)),
    "use_beam_search": Refused((False,)),
    "include_stop_str_in_output": Refused((False,)),
    "skip_special_tokens": Refused((True,)),
    "spaces_between_special_tokens": Refused((True,)),
    "logits_processors": Refused(([],)),
    "priority": Refused((0,)),
    "cache_salt": Refused(("",)),
    "return_token_ids": Refused((False,)),
    "return_tokens_as_token_ids": Refused((False,)),
    "repetition_detection": Refused(),
    "kv_transfer_params": Refused(),
    "vllm_xargs": Refused(({},)),
    "guided_whitespace_pattern": Refused(),
    # SGLang
    "regex": Refused(("",), _USE_FORMAT),
    "ebnf": Refused(("",), _USE_FORMAT),
    "stop_regex": Refused(("", [])),
    "no_stop_trim": Refused((False,)),
    "custom_logit_processor": Refused(),
    "lora_path": Refused(("",)),
    "session_params": Refused(),
    "return_hidden_states": Refused((False,)),
    # llama.cpp
    "grammar": Refused(("",), _USE_FORMAT),
    "json_schema": Refused(({},), _USE_FORMAT),
    "n_predict": Refused((-1,), _USE_MAX_TOKENS),
    "n_probs": Refused((0,), "Send logprobs and top_logprobs."),
    "post_sampling_probs": Refused((False,)),
    "n_keep": Refused((0,)),
    "repeat_penalty": Refused((1,), _USE_PENALTY),
    "repeat_last_n": Refused((0,)),
    "typical_p": Refused((1,)),
    "tfs_z": Refused((1,)),
    "dynatemp_range": Refused((0,)),
    "mirostat": Refused((0,)),
    "dry_multiplier": Refused((0,)),
    "xtc_probability": Refused((0,)),
    "samplers": Refused(),
    "reasoning_format": Refused(("auto",)),
    "lora": Refused(([],)),
    # Ollama
    "format": Refused(("",), _USE_FORMAT),
    "options": Refused(({},), "Send its members as parameters of the request itself, under OpenAI's names."),
    "think": Refused((), _USE_SWITCH),
    "template": Refused(("",), "The model's own template is always used."),
    "num_predict": Refused((), _USE_MAX_TOKENS),
    "num_ctx": Refused(),
    # transformers and TGI
    "generation_config": Refused(({}, "")),
    "do_sample": Refused((), "Send temperature; 0 takes the likeliest token."),
    "max_new_tokens": Refused((), _USE_MAX_TOKENS),
    "max_length": Refused((), _USE_MAX_TOKENS),
    "num_beams": Refused((1,)),
    "num_return_sequences": Refused((1,), _USE_N),
    "truncate": Refused(),
    "watermark": Refused((False,)),
}

#: further members of ``stream_options`` that are accepted
HARMLESS_STREAM_OPTIONS: dict[str, str] = {"include_obfuscation": "events have no padding"}
REFUSED_STREAM_OPTIONS: dict[str, Refused] = {
    "continuous_usage_stats": Refused((False,), "Send include_usage: the token counts come at the end.")
}


def check_extras(extras: Mapping[str, Any]) -> None:
    """Check the parameters of a request that are not fields.

    Raises ``UnsupportedParameter`` for what would change the answer, and ``InvalidRequest`` (``unknown_parameter``) for
    a name that is not known.
    """
    for name, value in extras.items():
        _check(name, value, HARMLESS, REFUSED)


def check_stream_options(extras: Mapping[str, Any]) -> None:
    """Like ``check_extras``, for the members of ``stream_options``."""
    for name, value in extras.items():
        _check(name, value, HARMLESS_STREAM_OPTIONS, REFUSED_STREAM_OPTIONS, inside="stream_options.")


def check_template_variables(extras: Mapping[str, Any]) -> None:
    """Like ``check_extras``, for the members of ``chat_template_kwargs``."""
    for name, value in extras.items():
        _check(name, value, {}, {}, inside="chat_template_kwargs.")


def _check(
    name: str,
    value: Any,
    harmless: Mapping[str, str],
    refused: Mapping[str, Refused],
    *,
    inside: str = "",
) -> None:
    param = inside + name[:MAX_NAME_CHARS]
    ignored = settings.IGNORED_PARAMETERS
    if (found := refused.get(name)) is not None:
        if value is not None and value not in found.unless:
            raise UnsupportedParameter(found.message(param), param=param)
    elif name in harmless or name in ignored or "*" in ignored:
        log.debug("parameter ignored: %s", param)
    else:
        raise InvalidRequest(
            f"Unknown parameter: {param}. It would have no effect, so it is refused. Leave it out.",
            param=param,
            code="unknown_parameter",
        )
