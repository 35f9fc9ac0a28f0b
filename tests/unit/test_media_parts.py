"""Reading OpenAI messages: what is accepted, in which neutral form, and which part a refusal names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import override_settings

from inference.errors import ApiError, InvalidMedia, InvalidRequest, UnsupportedParameter
from inference.media.parts import MediaSource, origin_of, parse_messages

URL = "https://pictures.example/cat.png"
DATA = "data:image/png;base64,iVBORw0KGgo="
BASE64 = "iVBORw0KGgo="
PART = "messages[0].content[0]"


def user(*parts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def refusal(messages: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_messages(messages)
    return caught.value


def test_a_string_becomes_one_text_part() -> None:
    parsed = parse_messages([{"role": "user", "content": "Halo"}])
    assert parsed.messages == [{"role": "user", "content": [{"type": "text", "text": "Halo"}]}]
    assert parsed.sources == []


def test_developer_becomes_system_and_silent_assistant_becomes_empty_text() -> None:
    parsed = parse_messages(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "assistant", "content": None, "tool_calls": None, "refusal": None},
            {"role": "assistant"},
            {"role": "user", "content": ""},
        ]
    )
    assert [m["role"] for m in parsed.messages] == ["system", "assistant", "assistant", "user"]
    assert [m["content"][0]["text"] for m in parsed.messages] == ["Be brief.", "", "", ""]


def test_a_turn_of_the_model_may_be_empty_or_a_refusal() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    parsed = parse_messages(
        [
            {"role": "assistant", "content": []},
            {"role": "assistant", "content": [refusal]},
            {"role": "assistant", "content": None, "refusal": "No, thanks."},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Yes.", "annotations": []}]},
        ]
    )
    assert [m["content"] for m in parsed.messages] == [
        [{"type": "text", "text": text}] for text in ("", "No.", "No, thanks.", "Yes.")
    ]


@pytest.mark.parametrize("part", [{"type": "refusal", "refusal": "No."}, {"type": "output_text", "text": "Yes."}])
def test_what_a_model_says_stands_in_its_own_turns_only(part: dict[str, Any]) -> None:
    assert refusal(user(part)).param == PART


def test_a_name_goes_to_the_model() -> None:
    parsed = parse_messages([{"role": "user", "content": "Halo", "name": "siti"}])
    assert parsed.messages[0]["name"] == "siti"


def test_media_are_listed_in_order_of_appearance_with_their_parts() -> None:
    parsed = parse_messages(
        [
            {"role": "system", "content": "Look."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": URL, "detail": "high"}},
                    {"type": "text", "text": "and"},
                    {"type": "input_video", "b64_json": BASE64},
                ],
            },
            {"role": "user", "content": [{"type": "input_text", "text": "?"}, {"type": "input_image", "image": DATA}]},
        ]
    )
    assert [part["type"] for part in parsed.messages[1]["content"]] == ["image", "text", "video"]
    assert parsed.messages[2]["content"] == [{"type": "text", "text": "?"}, {"type": "image"}]
    assert parsed.sources == [
        MediaSource("image", "messages[1].content[0]", URL, "url"),
        MediaSource("video", "messages[1].content[2]", BASE64, "base64"),
        MediaSource("image", "messages[2].content[1]", DATA, "data"),
    ]
    json.dumps(parsed.messages)


@pytest.mark.parametrize(
    ("part", "kind", "reference", "origin"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, "image", URL, "url"),
        ({"type": "image_url", "image_url": URL}, "image", URL, "url"),
        ({"type": "image_url", "image_url": f"  {URL}\n"}, "image", URL, "url"),
        ({"type": "image_url", "image_url": {"url": BASE64}}, "image", BASE64, "base64"),
        ({"type": "input_image", "b64_json": BASE64}, "image", BASE64, "base64"),
        ({"type": "input_image", "b64_json": DATA}, "image", DATA, "data"),
        ({"type": "input_image", "b64_json": "/etc/passwd"}, "image", "/etc/passwd", "base64"),
        ({"type": "input_image", "image": "photo.png"}, "image", "photo.png", "path"),
        ({"type": "input_image", "image_url": URL, "detail": "auto", "file_id": None}, "image", URL, "url"),
        ({"type": "video_url", "video_url": {"url": "HTTP://v.example/a"}}, "video", "HTTP://v.example/a", "url"),
        ({"type": "video_url", "video_url": "file:///a.mp4"}, "video", "file:///a.mp4", "path"),
        ({"type": "input_video", "video": DATA}, "video", DATA, "data"),
        ({"type": "input_video", "video_url": URL}, "video", URL, "url"),
    ],
)
def test_every_spelling_of_a_media_part_is_understood(
    part: dict[str, Any], kind: str, reference: str, origin: str
) -> None:
    parsed = parse_messages(user(part))
    assert parsed.messages[0]["content"] == [{"type": kind}]
    assert parsed.sources == [MediaSource(kind, PART, reference, origin)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "origin"),
    [
        ("/9j/4AAQSkZJRgABAQ", "base64"),
        ("/srv/pictures/cat", "path"),
        ("../cat.png", "path"),
        ("DATA:image/png;base64,AAAA", "data"),
        ("iVBOR\nw0KGgo", "base64"),
        ("_-8", "base64"),
        ("A" * 5000 + "!", "base64"),
        ("C:\\cat.png", "path"),
        ("ftp://pictures.example/cat.png", None),
        ("s3://bucket/cat.png", None),
    ],
)
def test_a_reference_is_told_apart_by_its_looks(reference: str, origin: str | None) -> None:
    assert origin_of(reference) == origin


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ({}, "messages"),
        ("Halo", "messages"),
        ([], "messages"),
        (["Halo"], "messages[0]"),
        ([{"content": "Halo"}], "messages[0].role"),
        ([{"role": "robot", "content": "Halo"}], "messages[0].role"),
        ([{"role": ["user"], "content": "Halo"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "a\0b"}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        (user("Halo"), PART),
        (user({"text": "Halo"}), PART),
        (user({"type": "text"}), PART),
        (user({"type": "text", "text": 5}), PART),
        (user({"type": "text", "text": "a\0b"}), PART),
        (user({"type": "picture", "picture": URL}), PART),
        (user({"type": "text", "text": "a"}, {"type": "image_url"}), "messages[0].content[1]"),
        (user({"type": "image_url", "image_url": {}}), PART),
        (user({"type": "image_url", "image_url": 5}), PART),
        (user({"type": "image_url", "image_url": {"url": URL, "detail": 5}}), PART),
        (user({"type": "input_image", "b64_json": BASE64, "image": URL}), PART),
        (user({"type": "input_video", "image": URL}), PART),
        ([{"role": "system", "content": [{"type": "image_url", "image_url": URL}]}], PART),
        ([{"role": "assistant", "content": [{"type": "input_image", "image": URL}]}], PART),
    ],
)
def test_what_cannot_be_understood_is_refused_naming_the_part(messages: object, param: str) -> None:
    error = refusal(messages)
    assert isinstance(error, InvalidRequest)
    assert (error.status, error.param) == (400, param)
    assert error.message.endswith(".")


@pytest.mark.parametrize("reference", ["", "   ", "ftp://pictures.example/cat.png"])
def test_a_reference_that_leads_nowhere_is_invalid_media(reference: str) -> None:
    error = refusal(user({"type": "image_url", "image_url": reference}))
    assert isinstance(error, InvalidMedia)
    assert error.param == PART


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "function", "name": "f", "content": "5"}], "messages[0].role"),
        (user({"type": "input_audio", "input_audio": {}}), PART),
        (user({"type": "file", "file": {}}), PART),
        (user({"type": "input_image", "file_id": "file-1"}), PART),
    ],
)
def test_what_openai_has_and_this_server_has_not_is_called_unsupported(messages: object, param: str) -> None:
    error = refusal(messages)
    assert isinstance(error, UnsupportedParameter)
    assert error.param == param


@pytest.mark.parametrize("name", ["min_pixels", "resized_height", "fps", "video_start"])
def test_how_other_servers_size_and_cut_media_is_refused_by_name(name: str) -> None:
    part = {"type": "image_url", "image_url": {"url": URL}, name: 3136}
    error = refusal(user(part))
    assert (type(error), error.param) == (UnsupportedParameter, f"{PART}.{name}")


def test_one_image_or_video_over_the_limit_is_named() -> None:
    image = {"type": "image_url", "image_url": URL}
    video = {"type": "video_url", "video_url": URL}
    with override_settings(MAX_IMAGES_PER_REQUEST=2, MAX_VIDEOS_PER_REQUEST=1):
        assert len(parse_messages(user(image, video, image)).sources) == 3
        assert refusal(user(image, image, video, image)).param == "messages[0].content[3]"
        assert refusal(user(video, image, video)).param == "messages[0].content[2]"


def test_a_source_does_not_show_its_reference_in_logs() -> None:
    assert BASE64 not in repr(MediaSource("image", PART, BASE64, "base64"))
