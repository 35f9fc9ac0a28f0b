"""What a value may have been meant as: the nearest words that cards print, and dates in the way they print them.

A suggestion is only shown, never applied automatically.
"""

from __future__ import annotations

import re

from rapidfuzz import fuzz, process

from ocr.reading.checks import printed
from ocr.reading.vocabularies import CITIZEN, GENDERS, LIFETIME, MARITAL_STATUSES, OCCUPATIONS, RELIGIONS

#: what each field usually prints; for lists to choose from
VOCABULARIES: dict[str, tuple[str, ...]] = {
    "jenis_kelamin": tuple(sorted(GENDERS)),
    "agama": tuple(sorted(RELIGIONS - {"-"})),
    "status_perkawinan": tuple(sorted(MARITAL_STATUSES)),
    "pekerjaan": tuple(sorted(OCCUPATIONS)),
    "kewarganegaraan": (CITIZEN,),
    "berlaku_hingga": (LIFETIME,),
}
DATES = frozenset({"tgl_lahir", "berlaku_hingga"})
MAX_SUGGESTIONS = 3
#: minimum similarity (0 to 100) of two words for a suggestion; WN1 and WNI have 67
MIN_SIMILARITY = 66
#: letters that are often read in place of digits → the digit
LOOK_ALIKES = str.maketrans("OQDILZSGB", "000112568")
_DATE = re.compile(r"\s*([0-9]{1,2})\s*[-/. ]\s*([0-9]{1,2})\s*[-/. ]\s*([0-9]{4})\s*")


def suggest(path: str, value: str) -> list[str]:
    """At most three other values for the field, the likeliest first."""
    written = printed.words(value)
    if not written:
        return []
    found: list[str] = []
    if path == "nik":
        found = [_digits(written)]
    if path in DATES and (match := _DATE.fullmatch(written.translate(LOOK_ALIKES))):
        found = [f"{int(match[1]):02}-{int(match[2]):02}-{match[3]}"]
    elif path in VOCABULARIES and written not in VOCABULARIES[path]:
        nearest = process.extract(
            written, VOCABULARIES[path], scorer=fuzz.ratio, score_cutoff=MIN_SIMILARITY, limit=MAX_SUGGESTIONS
        )
        found = [word for word, *_ in nearest]
    return [text for text in found if text and text != value]


def _digits(written: str) -> str:
    """Sixteen digits, if only blanks and look-alike letters have to be replaced; else ""."""
    digits = re.sub(r"[ .\-]", "", written).translate(LOOK_ALIKES)
    return digits if re.fullmatch(r"[0-9]{16}", digits) else ""
