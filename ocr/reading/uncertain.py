"""The characters of a value that the model was not sure of, and the alternatives that it considered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

#: fields whose uncertain characters are counted as digits
DIGITS_ONLY = frozenset({"nik"})
#: maximum uncertain places that are described in words; further ones are only underlined
MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class UncertainPlace:
    """One place in a value, as the model read it."""

    #: index of its first character
    at: int
    #: the text that was read there; "" for the end of a value that may be longer
    text: str
    #: probability of that text
    probability: float
    #: alternatives with their probabilities, likeliest first; empty if unknown
    others: tuple[tuple[str, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form that is stored with the problem. It contains characters of the card."""
        return {
            "at": self.at,
            "text": self.text,
            "probability": self.probability,
            "others": [list(other) for other in self.others],
        }

    @property
    def end(self) -> int:
        return self.at + len(self.text)


def from_dict(stored: Mapping[str, Any]) -> UncertainPlace:
    """The inverse of ``as_dict``."""
    others = tuple((text, probability) for text, probability in stored["others"])
    return UncertainPlace(stored["at"], stored["text"], stored["probability"], others)


def sentences(field: str | None, places: Sequence[UncertainPlace]) -> list[str]:
    """The texts for these places, in the language of the page: "Digit 13 may be 9 or 5"."""
    if len(places) > MAX_NAMED:
        count = len(places)
        return [
            ngettext(
                "The model is not sure of %(count)d place in this value.",
                "The model is not sure of %(count)d places in this value.",
                count,
            )
            % {"count": count}
        ]
    return [_sentence(field, place) for place in places]


def _sentence(field: str | None, place: UncertainPlace) -> str:
    if not place.text:
        return _("The value may go on after character %(number)d.") % {"number": place.at}
    or_ = _(" or ")
    if field in DIGITS_ONLY and len(place.text) == 1 and place.others:
        texts = [place.text, *(text for text, _probability in place.others)]
        return _("Digit %(number)d may be %(texts)s.") % {"number": place.at + 1, "texts": or_.join(texts)}
    words = {"number": place.at + 1, "text": _shown(place.text)}
    if not place.others:
        return _("From character %(number)d, the model is not sure of %(text)s.") % words
    others = or_.join(_shown(text) for text, _probability in place.others)
    return _("From character %(number)d, %(text)s may be %(others)s.") % {**words, "others": others}


def _shown(text: str) -> str:
    return f"“{text}”" if text.strip() else _("a space")
