"""Bodies of the API: JSON, and said to be JSON."""

from __future__ import annotations

import json
from typing import Any, cast

from django.http import HttpRequest
from ninja.parser import Parser

from inference.errors import ApiError


class UnsupportedMediaType(ApiError):
    """A body that is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class JsonParser(Parser):
    """Ninja's parser, which would take anything that happens to parse, with the declaration checked."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise UnsupportedMediaType("Send the body as application/json.")
        return cast("dict[str, Any]", json.loads(request.body))
