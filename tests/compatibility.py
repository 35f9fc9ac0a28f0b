"""Makes ``docs/compatibility.md`` from the code: ``python -m tests.compatibility`` (``make compatibility``).

What this server does is asked of the code: the lists, and the refusals that a request gets. What others do is written
down here, as it was read in their source or their documents. "not checked" stands for what nobody has looked at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"

HONOURED, IGNORED, REFUSED, IN_PART, UNKNOWN = "honoured", "ignored", "refused", "in part", "not checked"


def _names(text: str) -> set[str]:
    return set(text.split())


PEERS = ("vLLM", "SGLang", "llama.cpp", "Ollama", "transformers serve")

#: protocol.py of vLLM's chat completions: what it declares and uses
VLLM_HONOURS = _names(
    """
    messages model frequency_penalty presence_penalty logit_bias logprobs top_logprobs max_tokens
    max_completion_tokens n response_format seed stop stream stream_options temperature top_p tools tool_choice
    parallel_tool_calls reasoning_effort top_k min_p repetition_penalty length_penalty use_beam_search
    min_tokens stop_token_ids include_stop_str_in_output ignore_eos skip_special_tokens truncate_prompt_tokens
    prompt_logprobs allowed_token_ids bad_words echo add_generation_prompt continue_final_message chat_template
    chat_template_kwargs documents media_io_kwargs mm_processor_kwargs structured_outputs priority request_id
    return_token_ids cache_salt thinking_token_budget include_reasoning repetition_detection
    """
)
#: serve.py of transformers: unknown fields are a 422, and these are warned of once
TRANSFORMERS_HONOURS = _names(
    """
    messages model tools stream temperature top_p max_tokens max_completion_tokens logit_bias stop
    chat_template_kwargs generation_config
    """
)
TRANSFORMERS_IGNORES = _names(
    """
    audio function_call functions logprobs metadata modalities n parallel_tool_calls prediction presence_penalty
    reasoning_effort response_format service_tier store stream_options tool_choice top_logprobs user
    web_search_options
    """
)
ELSEWHERE = {"SGLang": HONOURED, "llama.cpp": HONOURED, "Ollama": HONOURED}
#: the same of several servers, from their documents
CHECKED: dict[str, dict[str, str]] = {
    "user": {"vLLM": IGNORED},
    "frequency_penalty": {"transformers serve": "as a repetition penalty"},
    "seed": ELSEWHERE | {"transformers serve": "for the process"},
    **dict.fromkeys(_names("messages model stream stop tools logprobs top_logprobs"), ELSEWHERE),
    "response_format": ELSEWHERE,
    "stream_options": ELSEWHERE,
    "tool_choice": {"SGLang": HONOURED, "llama.cpp": HONOURED, "Ollama": IN_PART},
    "n": {"SGLang": HONOURED, "llama.cpp": IN_PART, "Ollama": "no"},
    "logit_bias": {"SGLang": HONOURED, "Ollama": "no"},
    "": {"vLLM": IGNORED},
    "session_id": {"vLLM": "means something else"},
    **{name: {"vLLM": IGNORED} for name in _names("guided_json guided_regex guided_choice guided_grammar")},
}
#: addresses of OpenAI's API and its kin: yes, no, in part, or not checked, in the order of ``PEERS``
ADDRESSES: dict[str, tuple[str, str, str, str, str]] = {
    "POST /v1/chat/completions": ("yes", "yes", "yes", "yes", "yes"),
    "GET /v1/models": ("yes", "yes", "yes", "yes", "yes"),
    "GET /v1/models/{model_id}": (UNKNOWN, "yes", UNKNOWN, "yes", "no"),
    "GET /v1/sessions/{session_id}/events": ("no", UNKNOWN, UNKNOWN, UNKNOWN, "no"),
    "POST /v1/cancel/{session_id}": ("no", UNKNOWN, UNKNOWN, UNKNOWN, "no"),
    "GET /health": ("yes", UNKNOWN, UNKNOWN, UNKNOWN, "yes"),
    **dict.fromkeys(
        (
            "POST /ktp-ocr/",
            "GET /ktp-ocr/{reading_id}",
            "DELETE /ktp-ocr/{reading_id}",
            "GET /ktp-ocr/batches/{batch_id}",
        ),
        ("no", "no", "no", "no", "no"),
    ),
    "POST /v1/completions": ("yes", "yes", "yes", "yes", "yes"),
    "POST /v1/responses": ("yes", IN_PART, IN_PART, IN_PART, IN_PART),
    "POST /v1/embeddings": ("yes", "yes", "yes", "yes", "no"),
    "POST /v1/audio/transcriptions": ("yes", UNKNOWN, UNKNOWN, UNKNOWN, "yes"),
    "POST /v1/messages": ("yes", UNKNOWN, UNKNOWN, UNKNOWN, "no"),
    "POST /v1/rerank": ("yes", UNKNOWN, UNKNOWN, UNKNOWN, "no"),
    "POST /tokenize": ("yes", UNKNOWN, UNKNOWN, UNKNOWN, "no"),
}

HEAD = """\
# Compatibility

What this server does with everything that a client of OpenAI's API may send. A parameter is honoured, or harmless
(accepted, logged at debug, and without effect on the answer), or refused with a 400 that names it in `param`.
[Decision 32](decisions/0032-honoured-or-refused.md) says why. What the fields mean is at `/docs`.

This page is made from the code by `make compatibility`; a test fails when it is out of date. Beside it stands what
other servers do, as far as it was read in the source of vLLM 0.33.0 and transformers serve 5.23.0 and in the documents
of SGLang 0.5.23, llama.cpp (late 2026) and Ollama 0.40. "not checked" says that nobody has looked.
"""


def render() -> str:
    """The page. Needs Django to be set up."""
    parts = [
        HEAD,
        "## Parameters of a chat request\n",
        _parameters(),
        _members(),
        _messages(),
        _addresses(),
        _clients(),
    ]
    return "\n".join(parts)


def _parameters() -> str:
    from inference.api import parameters
    from inference.api.schemas import ChatCompletionRequest

    rows = [(f"`{name}`", HONOURED, "", *_peers(name)) for name in sorted(ChatCompletionRequest.model_fields)]
    rows += [(f"`{name}`", "harmless", reason, *_peers(name)) for name, reason in sorted(parameters.HARMLESS.items())]
    for name, refused in sorted(parameters.REFUSED.items()):
        passing = (
            f" Passes: {', '.join(f'`{json.dumps(value)}`' for value in refused.unless)}." if refused.unless else ""
        )
        rows.append((f"`{name}`", REFUSED, f"“{_refusal_of({name: object()})}”{passing}", *_peers(name)))
    unknown = _refusal_of({"anything_else": 1})
    rows.append(("any other", REFUSED, f"“{unknown}” Operators may list names in `IGNORED_PARAMETERS`.", *_peers("")))
    return _table(("Parameter", "Here", "Why, or the message", *PEERS), rows)


def _members() -> str:
    from inference.api import parameters
    from inference.api.reasoning import TemplateVariables
    from inference.api.schemas import StreamOptions

    rows = [(f"`stream_options.{name}`", HONOURED, "") for name in StreamOptions.model_fields]
    rows += [
        (f"`stream_options.{name}`", "harmless", reason) for name, reason in parameters.HARMLESS_STREAM_OPTIONS.items()
    ]
    for name in parameters.REFUSED_STREAM_OPTIONS:
        message = _refusal_of({"stream": True, "stream_options": {name: object()}})
        rows.append((f"`stream_options.{name}`", REFUSED, f"“{message}”"))
    rows += [
        (f"`chat_template_kwargs.{name}`", HONOURED, "where the model's chat template has it; else refused")
        for name in TemplateVariables.model_fields
    ]
    message = _refusal_of({"chat_template_kwargs": {"anything_else": 1}})
    rows.append(("any other member of `chat_template_kwargs`", REFUSED, f"“{message}”"))
    return "\n## Members of parameters\n\n" + _table(("Member", "Here", "Why, or the message"), rows)


def _messages() -> str:
    from inference.media import parts

    def refused(message: dict[str, Any]) -> str:
        return "“" + _message_of(lambda: parts.parse_messages([message])) + "”"

    def user(part: dict[str, Any]) -> dict[str, Any]:
        return {"role": "user", "content": [part]}

    rows = [
        (f"role `{role}`", HONOURED, "" if role == meant else f"as `{meant}`") for role, meant in parts.ROLES.items()
    ]
    for role in sorted({"tool", "function"} - parts.ROLES.keys()):
        rows.append((f"role `{role}`", REFUSED, refused({"role": role, "content": "x"})))
    rows += [("`name`", HONOURED, "where the model's chat template writes names")]
    for name in parts.REASONING_MEMBERS:
        where = "in messages of the assistant, where the model's chat template shows the reasoning of earlier turns"
        rows.append((f"`{name}` in a message", HONOURED, where))
    for kind in parts.TEXT_PARTS:
        where = "in messages of the assistant" if kind in parts.MODEL_PARTS else ""
        rows.append((f"part `{kind}`", HONOURED, where))
    rows += [(f"part `{kind}`", HONOURED, "in messages of the user") for kind in parts.MEDIA_PARTS]
    for kind in sorted(parts.UNSERVED_PARTS):
        rows.append((f"part `{kind}`", REFUSED, refused(user({"type": kind}))))
    for member in parts.UNSERVED_MEMBERS:
        rows.append((f"`{member}` in a message", REFUSED, refused({"role": "assistant", member: [{}]})))
    for member in parts.UNSERVED_PART_MEMBERS:
        rows.append(
            (f"`{member}` in a part", REFUSED, refused(user({"type": "image_url", "image_url": "x", member: 1})))
        )
    rows.append(("any other member", "harmless", "a message describes a turn that is over"))
    return "\n## Messages\n\n" + _table(("What", "Here", "Why, or the message"), rows)


def _addresses() -> str:
    from inference.api.unserved import served_addresses

    served = served_addresses()
    rows = [
        (f"`{address}`", "yes" if address in served else "404 `not_found`", *ADDRESSES.get(address, _no_peers()))
        for address in dict.fromkeys((*served, *ADDRESSES))
    ]
    text = (
        "\n## Addresses\n\nAny other address is a 404 whose message says which one was asked and which there are. "
        "`/live`, `/ready` and\n`/metrics` are in [Monitoring](monitoring.md).\n\n"
    )
    return text + _table(("Address", "Here", *PEERS), rows)


def _clients() -> str:
    from tests.contract.clients import CASES, CLIENTS, OWN_CASES

    text = "\n## Clients\n\n`make contract` tries these clients, unmodified, against a running server. The cases:\n\n"
    text += _table(("Case", "What is tried"), [(f"`{name}`", about) for name, about in (CASES | OWN_CASES).items()])
    rows = []
    for client in CLIENTS:
        left_out = [f"`{case}`: {reason}" for case, reason in client.cannot.items()]
        left_out += [f"`thinking`: {reason}" for reason in client.hides.values()]
        own = f", and {', '.join(f'`{case}`' for case in client.also)}" if client.also else ""
        tried = f"{len(CASES) - len(client.cannot)} of {len(CASES)}{own}"
        rows.append((client.title, client.version, tried, "; ".join(left_out)))
    return text + "\n" + _table(("Client", "Version", "Cases", "What it cannot do"), rows)


def _peers(name: str) -> tuple[str, ...]:
    known = dict(CHECKED.get(name, {}))
    if name in VLLM_HONOURS:
        known.setdefault("vLLM", HONOURED)
    if name in TRANSFORMERS_HONOURS:
        known.setdefault("transformers serve", HONOURED)
    elif name in TRANSFORMERS_IGNORES:
        known.setdefault("transformers serve", IGNORED)
    known.setdefault("transformers serve", REFUSED)
    return tuple(known.get(peer, UNKNOWN) for peer in PEERS)


def _no_peers() -> tuple[str, str, str, str, str]:
    return (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)


def _refusal_of(fields: dict[str, Any]) -> str:
    from inference.api.schemas import ChatCompletionRequest

    asked = ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "x"}]} | fields)
    return _message_of(asked.check)


def _message_of(refuse: Callable[[], Any]) -> str:
    from inference.errors import ApiError

    try:
        refuse()
    except ApiError as error:
        return error.message
    raise AssertionError("this is not refused")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    PAGE.write_text(render())
