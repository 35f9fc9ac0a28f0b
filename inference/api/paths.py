"""Which addresses are the API's: their errors are JSON, whoever finds them."""

from __future__ import annotations

import re

# Also with the slash that a base URL ends in (``//v1/models``) and in other letters: whoever asks there wants the API.
_API_PATHS = re.compile(r"/+((v1|ktp-ocr|health|live|ready|metrics)(/|$)|openapi\.json$)", re.IGNORECASE)


def is_api_path(path: str) -> bool:
    """Whether an error at ``path``, without the prefix of a proxy, is answered by OpenAI's error object."""
    return _API_PATHS.match(path) is not None
