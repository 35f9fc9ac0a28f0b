"""What is asked: the same of all contestants, and never the same twice."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from inference.engine.types import GenerationRequest, Sampling

Media = Literal["text", "image"]

TEXT = "Ceritakan dengan kalimat yang lengkap apa yang terjadi di kota itu pada pagi hari, siapa yang ada di sana, "
IMAGE_TEXT = "Apa yang terlihat pada gambar ini?"

#: of a request over HTTP to a server that takes vLLM's parameters, as ours does
GREEDY_FIELDS: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}

#: a list of records that no answer comes to the end of, with the kinds of values that schemas have
SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 10_000,
    "items": {
        "type": "object",
        "properties": {
            "nik": {"type": "string", "pattern": "^[0-9]{16}$"},
            "nama": {"type": "string", "maxLength": 60},
            "lahir": {"type": "string", "format": "date"},
            "alamat": {
                "type": "object",
                "properties": {
                    "jalan": {"type": "string", "maxLength": 80},
                    "nomor": {"type": "integer", "minimum": 1},
                },
                "required": ["jalan", "nomor"],
                "additionalProperties": False,
            },
            "agama": {"anyOf": [{"enum": ["ISLAM", "KRISTEN", "KATOLIK", "HINDU", "BUDDHA"]}, {"type": "null"}]},
        },
        "required": ["nik", "nama", "lahir", "alamat", "agama"],
        "additionalProperties": False,
    },
}


def ask(media: Media, rows: int, *, tokens: int, draw: int, image_size: tuple[int, int]) -> list[GenerationRequest]:
    """Requests that are generated greedily to exactly ``tokens`` tokens.

    Another ``draw`` gives others, different from their first word and pixel on: what an engine keeps of earlier prompts
    is of no use to it here.
    """
    return [_ask_one(media, f"{draw}-{row}", tokens, image_size) for row in range(rows)]


def _ask_one(media: Media, name: str, tokens: int, image_size: tuple[int, int]) -> GenerationRequest:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    if media == "text":
        content: list[dict[str, Any]] = [{"type": "text", "text": f"{name}: {TEXT}"}]
        return GenerationRequest([{"role": "user", "content": content}], sampling)
    content = [{"type": "image"}, {"type": "text", "text": f"{name}: {IMAGE_TEXT}"}]
    return GenerationRequest([{"role": "user", "content": content}], sampling, images=[_picture(name, image_size)])


def _picture(name: str, size: tuple[int, int]) -> Image.Image:
    width, height = size
    seed = list(name.encode())
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def conversation(request: GenerationRequest) -> list[dict[str, Any]]:
    """The messages as a transformers processor takes them, each image in its place."""
    images = list(request.images)
    return [
        {
            **message,
            "content": [
                {"type": "image", "image": images.pop(0)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in request.messages
    ]


def openai_messages(request: GenerationRequest) -> list[dict[str, Any]]:
    """The messages as an OpenAI-compatible server takes them."""
    images = list(request.images)
    return [
        {
            **message,
            "content": [
                {"type": "image_url", "image_url": {"url": _data_url(images.pop(0))}}
                if part["type"] == "image"
                else part
                for part in message["content"]
            ],
        }
        for message in request.messages
    ]


def _data_url(image: Image.Image) -> str:
    target = io.BytesIO()
    image.save(target, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def bodies(requests: Sequence[GenerationRequest], **fields: Any) -> list[dict[str, Any]]:
    """The requests as ``/v1/chat/completions`` takes them, streamed."""
    return [
        {"messages": openai_messages(request), "stream": True, "max_tokens": request.sampling.max_tokens} | fields
        for request in requests
    ]
