"""The examples in ``/docs``: requests that work as they are, and a stream."""

from __future__ import annotations

from typing import Any

#: a teal square, 64 x 64
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAATUlEQVR42u3PQQ0AAAgEoNPkRjeFDzdoQGUmn3WeExAQEBAQEBAQEBAQEBAQ"
    "EBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQELi3gUQBgBESS1AAAAAASUVORK5CYII="
)
#: the same square for half a second, then a yellow one
_GIF = (
    "R0lGODlhQABAAIEAAACAgAAAAAAAAAAAACH5BAAyAAAALAAAAABAAEAAAAhpAAEIHEiwoMGDCBMqXMiwocOHECNKnEixosWLGDNq3Mixo8eP"
    "IEOKHEmypMmTKFOqXMmypcuXMGPKnEmzps2bOHPq3Mmzp8+fQIMKHUq0qNGjSJMqXcq0qdOnUKNKnUq1qtWrWLNqBRAQACH5BAEyAAEALAAA"
    "AABAAEAAgf/IAAAAAAAAAAAAAAhpAAEIHEiwoMGDCBMqXMiwocOHECNKnEixosWLGDNq3Mixo8ePIEOKHEmypMmTKFOqXMmypcuXMGPKnEmz"
    "ps2bOHPq3Mmzp8+fQIMKHUq0qNGjSJMqXcq0qdOnUKNKnUq1qtWrWLNqBRAQADs="
)


def _ask(content: object, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 40} | fields


def _about(question: str, part: str, url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": question}, {"type": part, part: {"url": url}}]


_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}},
    "required": ["city"],
    "additionalProperties": False,
}
_A_TOOL = {"type": "function", "function": {"name": "weather", "description": "Cuaca hari ini", "parameters": _CITY}}

CHAT_EXAMPLES: dict[str, dict[str, Any]] = {
    "text": {"summary": "Text", "value": _ask("Apa kabar?")},
    "stream": {
        "summary": "Text, streamed",
        "value": _ask("Apa kabar?", stream=True, stream_options={"include_usage": True}),
    },
    "sampled": {
        "summary": "Two answers, sampled with penalties, and how likely each token was",
        "value": _ask(
            "Apa kabar?",
            n=2,
            seed=7,
            temperature=0.8,
            top_k=40,
            frequency_penalty=0.5,
            logit_bias={"42": -100},
            logprobs=True,
            top_logprobs=2,
        ),
    },
    "json": {
        "summary": "JSON of a schema",
        "value": _ask(
            "Sebutkan satu kota di Indonesia.",
            max_tokens=200,
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "city",
                    "strict": True,
                    "schema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "maxLength": 40},
                            "island": {"enum": ["Jawa", "Sumatra", "Kalimantan", "Sulawesi", "Papua", "other"]},
                            "founded": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                        },
                        "required": ["name", "island", "founded"],
                        "additionalProperties": False,
                    },
                },
            },
        ),
    },
    "choice": {
        "summary": "One of some texts, by vLLM's name",
        "value": _ask("Apakah Bandung di pulau Jawa?", structured_outputs={"choice": ["ya", "tidak"]}),
    },
    "image": {
        "summary": "An image",
        "value": _ask(_about("Gambar apa ini?", "image_url", f"data:image/png;base64,{_PNG}")),
    },
    "video": {
        "summary": "A video",
        "value": _ask(_about("Apa yang terjadi?", "video_url", f"data:image/gif;base64,{_GIF}")),
    },
    "tools": {
        "summary": "A function that has to be called",
        "value": _ask("Hujan di Solo?", max_tokens=200, tools=[_A_TOOL], tool_choice="required"),
    },
    "resume": {"summary": "A resume: put the last id you saw into Last-Event-ID", "value": {"stream": True}},
}

_STREAM = """\
retry: 1000
id: sess_x:0
data: {"id":"chatcmpl-sess_x","object":"chat.completion.chunk","created":1770000000,"model":"qwen","choices":\
[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

id: sess_x:1
data: {"id":"chatcmpl-sess_x","object":"chat.completion.chunk","created":1770000000,"model":"qwen","choices":\
[{"index":0,"delta":{"content":"Kabar baik."},"logprobs":null,"finish_reason":null}]}

id: sess_x:2
data: {"id":"chatcmpl-sess_x","object":"chat.completion.chunk","created":1770000000,"model":"qwen","choices":\
[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

id: sess_x:4
data: [DONE]

"""
#: OpenAPI cannot describe the events of a stream, so there is a description and an example
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {
            "description": "Server-sent events. `id` is `session_id:index`; `data` is a `chat.completion.chunk` as "
            "OpenAI has it. The last event is `[DONE]` or, when the run failed, an object with `error`. "
            "With `n` a chunk says in `choices` which answer it is of; the first is of all, and so may the last be. "
            "With `include_usage` an event with the token counts comes before `[DONE]`; without it the ids skip one. "
            "Lines that begin with `:` keep the connection open and say nothing.",
        },
        "example": _STREAM,
    }
}
