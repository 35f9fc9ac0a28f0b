"""``Prefer: handling=strict``: an error instead of an empty reading."""

from __future__ import annotations

from inference.errors import InvalidRequest
from ocr.api.rendering import location_of
from ocr.models import KtpExtraction
from ocr.reading.parsing import UNREADABLE_CODES

#: flags of pictures that are too poor to read a card in them
SPOILED = frozenset({"blurred", "small", "dark"})


class NotACard(InvalidRequest):
    """Nothing was read, and nothing is wrong with the picture."""

    status = 422
    code = "not_a_card"

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__("The picture shows no identity card: nothing was read.", param="image", headers=headers)


class Unreadable(InvalidRequest):
    """Nothing was read, because the picture is too poor or the model's answer cannot be used."""

    status = 422
    code = "unreadable"

    def __init__(self, flags: list[str], headers: dict[str, str]) -> None:
        why = f" The picture is {', '.join(flags).replace('_', ' ')}." if flags else ""
        super().__init__(f"Nothing could be read.{why} Take another picture.", param="image", headers=headers)


def check_strictly(extraction: KtpExtraction) -> None:
    """Raise ``NotACard`` or ``Unreadable`` if the reading has ended without any value."""
    if extraction.state != KtpExtraction.State.READ or any(extraction.values.values()):
        return
    image = getattr(extraction, "image", None)
    # The reading is stored like any other, so that the caller can erase it.
    headers = {"Content-Location": location_of(extraction), "X-Session-ID": extraction.session_id or ""}
    flags = [flag for flag in (image.quality or {}).get("flags", ()) if flag in SPOILED] if image is not None else []
    if flags or any(problem["code"] in UNREADABLE_CODES for problem in extraction.problems):
        raise Unreadable(flags, headers)
    raise NotACard(headers)
