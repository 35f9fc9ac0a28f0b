"""Settings of the model and of media that cannot work together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from inference.api.key_strength import weakness

#: base64 encodes three bytes as four characters
BASE64_RATIO = 4 / 3
#: valid device maps; only torch, which web processes do not load, can check whether a device exists
DEVICE_MAPS = re.compile(r"auto|balanced|balanced_low_0|sequential|cpu|mps|(cuda|xpu|npu|hpu|mlu|musa)(:\d+)?")
#: the form that httpx accepts
UPSTREAM_URL = re.compile(r"https?://[^\s/?#]+[^\s?#]*")


SESSION_ID_FIELDS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@checks.register()
def check_inference_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    if settings.MAX_REQUEST_BYTES < settings.MAX_IMAGE_BYTES * BASE64_RATIO:
        found.append(
            checks.Warning(
                f"MAX_REQUEST_BYTES ({settings.MAX_REQUEST_BYTES}) is too small for an image of MAX_IMAGE_BYTES "
                f"({settings.MAX_IMAGE_BYTES}) sent as base64.",
                hint="Raise MAX_REQUEST_BYTES to at least 1.4 times MAX_IMAGE_BYTES, or lower MAX_IMAGE_BYTES.",
                id="inference.W001",
            )
        )
    if settings.MAX_REQUEST_BYTES < settings.OCR_MAX_UPLOAD_BYTES:
        found.append(
            checks.Warning(
                f"MAX_REQUEST_BYTES ({settings.MAX_REQUEST_BYTES}) is too small for a card of OCR_MAX_UPLOAD_BYTES "
                f"({settings.OCR_MAX_UPLOAD_BYTES}).",
                hint="Raise MAX_REQUEST_BYTES, or lower OCR_MAX_UPLOAD_BYTES.",
                id="inference.W006",
            )
        )
    if settings.MEDIA_LOCAL_ROOT and not Path(settings.MEDIA_LOCAL_ROOT).is_dir():
        found.append(
            checks.Error(
                "MEDIA_LOCAL_ROOT is not a folder.",
                hint="Name an existing folder, or leave it empty to refuse local paths.",
                id="inference.E001",
            )
        )
    if settings.TORCH_DTYPE not in {"auto", "float32", "float16", "bfloat16"}:
        found.append(
            checks.Error(
                f"TORCH_DTYPE is {settings.TORCH_DTYPE!r}.",
                hint="Use auto, float32, float16 or bfloat16.",
                id="inference.E002",
            )
        )
    if settings.QUANTIZATION not in {"none", "8bit", "4bit"}:
        found.append(
            checks.Error(
                f"QUANTIZATION is {settings.QUANTIZATION!r}.", hint="Use none, 8bit or 4bit.", id="inference.E005"
            )
        )
    found += _check_upstream()
    # Any of the API's own names would mean two things.
    if not SESSION_ID_FIELDS.fullmatch(settings.SESSION_ID_FIELD) or _is_taken(settings.SESSION_ID_FIELD):
        found.append(
            checks.Error(
                f"SESSION_ID_FIELD is {settings.SESSION_ID_FIELD!r}, which cannot name the session id.",
                hint="Use letters, digits and _, and no name of another parameter, such as sambung_session.",
                id="inference.E011",
            )
        )
    if not DEVICE_MAPS.fullmatch(settings.DEVICE_MAP):
        found.append(
            checks.Error(
                f"DEVICE_MAP is {settings.DEVICE_MAP!r}, which is not a device.",
                hint="Use auto, cpu, cuda, cuda:1, mps or xpu.",
                id="inference.E004",
            )
        )
    if settings.MAX_TOKENS > settings.MAX_TOKENS_LIMIT:
        found.append(
            checks.Error(
                f"MAX_TOKENS ({settings.MAX_TOKENS}) is above MAX_TOKENS_LIMIT ({settings.MAX_TOKENS_LIMIT}).",
                hint="MAX_TOKENS is the default of a request without max_tokens; it cannot exceed that of any request.",
                id="inference.E003",
            )
        )
    elif (together := settings.MAX_TOKENS + settings.MAX_REASONING_TOKENS) > settings.MAX_TOKENS_LIMIT:
        found.append(
            checks.Warning(
                f"MAX_TOKENS and MAX_REASONING_TOKENS come to {together}, more than MAX_TOKENS_LIMIT "
                f"({settings.MAX_TOKENS_LIMIT}).",
                hint="A request without max_tokens may generate both together, more than a request can ask for.",
                id="inference.W007",
            )
        )
    if 0 < settings.MAX_CONTEXT_TOKENS <= settings.MAX_REASONING_TOKENS:
        found.append(
            checks.Warning(
                f"MAX_REASONING_TOKENS ({settings.MAX_REASONING_TOKENS}) leaves no room in MAX_CONTEXT_TOKENS "
                f"({settings.MAX_CONTEXT_TOKENS}) for the answer.",
                hint="Lower MAX_REASONING_TOKENS, or a thinking model may spend the whole context on its reasoning.",
                id="inference.W008",
            )
        )
    return found


def _is_taken(name: str) -> bool:
    from inference.api.parameters import HARMLESS, REFUSED
    from inference.api.schemas import ChatCompletionRequest

    return name != "session_id" and (
        name in HARMLESS or name in REFUSED or name in set(ChatCompletionRequest.model_fields) - {"session_id"}
    )


def _check_upstream() -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    if settings.INFERENCE_ENGINE not in {"local", "openai"}:
        found.append(
            checks.Error(
                f"INFERENCE_ENGINE is {settings.INFERENCE_ENGINE!r}.",
                hint="Use local for a model in the worker, or openai for an upstream server.",
                id="inference.E006",
            )
        )
    if settings.INFERENCE_ENGINE == "openai" and not UPSTREAM_URL.fullmatch(settings.UPSTREAM_BASE_URL):
        found.append(
            checks.Error(
                "INFERENCE_ENGINE is openai, but UPSTREAM_BASE_URL is not the URL of an API.",
                hint="Set UPSTREAM_BASE_URL to the upstream's API with its /v1, such as http://gpu.internal:8000/v1.",
                id="inference.E007",
            )
        )
    if settings.UPSTREAM_RESUME not in {"auto", "session", "prefix", "none"}:
        found.append(
            checks.Error(
                f"UPSTREAM_RESUME is {settings.UPSTREAM_RESUME!r}.",
                hint="Use auto, session, prefix or none.",
                id="inference.E008",
            )
        )
    return found


@checks.register(checks.Tags.security, deploy=True)
def check_deployed_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    if not settings.API_KEYS:
        found.append(
            checks.Warning(
                "API_KEYS is empty: anyone who reaches the server can use the model.",
                hint="Set API_KEYS to a comma-separated list of long random texts.",
                id="inference.W002",
            )
        )
    for number, key in enumerate(settings.API_KEYS, start=1):
        if (reason := weakness(key)) is not None:
            found.append(
                checks.Error(
                    f"Key {number} of API_KEYS {reason}: it can be guessed.",
                    hint='Draw one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
                    id="inference.E009",
                )
            )
    if settings.METRICS_TOKEN and (reason := weakness(settings.METRICS_TOKEN)) is not None:
        found.append(
            checks.Error(
                f"METRICS_TOKEN {reason}: it can be guessed.",
                hint='Draw one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
                id="inference.E010",
            )
        )
    if settings.CORS_ALLOW_ALL_ORIGINS and not settings.API_KEYS:
        found.append(
            checks.Warning(
                "CORS_ALLOWED_ORIGINS is * and API_KEYS is empty: any web page can use the model through the browsers "
                "of its visitors.",
                hint="Set API_KEYS, or set CORS_ALLOWED_ORIGINS to the origins of the pages that may call the API.",
                id="inference.W004",
            )
        )
    if settings.SECURE_HTTPS and not settings.TRUSTED_PROXIES:
        found.append(
            checks.Warning(
                "SECURE_HTTPS is set and TRUSTED_PROXIES is empty: all clients of the proxy count as one, so wrong "
                "passwords of one client lock out all of them.",
                hint="Set TRUSTED_PROXIES to the addresses from which the proxy connects to this server.",
                id="inference.W005",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            checks.Warning(
                "ALLOWED_HOSTS contains *: anyone who sends a request chooses the host name in generated links.",
                hint="Set ALLOWED_HOSTS to the host names under which people reach this server.",
                id="inference.W003",
            )
        )
    return found
