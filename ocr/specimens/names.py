"""Invent names of people and places from syllables. No list of real persons is used, and the variety is larger."""

from __future__ import annotations

from random import Random

_ONSETS = ("", "B", "D", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "W", "Y", "C", "F", "Z", "V", "Q", "X")
_ONSET_WEIGHTS = (6, 6, 7, 4, 5, 4, 7, 6, 7, 7, 6, 7, 9, 7, 5, 4, 4, 3, 2, 2, 0.6, 0.6)
_CLUSTERS = ("NG", "NY", "SY", "KH", "TR", "PR", "KR", "BR", "DW", "SR", "ST")
_VOWELS = ("A", "I", "U", "E", "O", "AI", "AU", "IA")
_VOWEL_WEIGHTS = (10, 7, 6, 5, 4, 0.7, 0.5, 0.7)
_CODAS = ("", "N", "NG", "R", "S", "M", "T", "K", "L", "H", "P", "D", "F", "J", "X")
_CODA_WEIGHTS = (14, 5, 2, 3, 3, 2, 2, 2, 2, 2, 1, 0.7, 0.3, 0.2, 0.2)
_ENDINGS = (
    "WATI",
    "YANTO",
    "SARI",
    "WAN",
    "NINGSIH",
    "NTO",
    "DI",
    "YANI",
    "MAN",
    "TI",
    "SAH",
    "DIN",
    "RO",
    "FAN",
    "LIA",
)
_PLACE_ENDINGS = (
    "REJO",
    "SARI",
    "JAYA",
    "MULYO",
    "AGUNG",
    "HARJO",
    "ASIH",
    "LAYA",
    "RAYA",
    "KERTO",
    "AN",
    "URIP",
    "BARU",
)
_PLACE_BEGINNINGS = (
    "SUKA",
    "KARANG",
    "TANJUNG",
    "MEKAR",
    "SUMBER",
    "WONO",
    "BANJAR",
    "PASIR",
    "BATU",
    "MUARA",
    "KEDUNG",
)
_DIRECTIONS = ("BARAT", "TIMUR", "UTARA", "SELATAN", "TENGAH", "LOR", "KIDUL", "WETAN", "KULON", "HILIR", "HULU")
_TITLES = ("S.KOM", "S.E", "S.PD", "S.H", "M.M", "S.SI", "S.T", "A.MD", "S.SOS", "SE", "ST", "M.SI")


def syllable(random: Random) -> str:
    onset = random.choices(_ONSETS, _ONSET_WEIGHTS)[0] if random.random() < 0.93 else random.choice(_CLUSTERS)
    return onset + random.choices(_VOWELS, _VOWEL_WEIGHTS)[0] + random.choices(_CODAS, _CODA_WEIGHTS)[0]


def word(random: Random, shortest: int = 1, longest: int = 3) -> str:
    """A pronounceable word of ``shortest`` to ``longest`` syllables."""
    return "".join(syllable(random) for _ in range(random.randint(shortest, longest)))


def person(random: Random, female: bool) -> str:
    """A name of one to five words, now and then with an initial, an apostrophe or a title."""
    count = random.choices((1, 2, 3, 4, 5), (8, 45, 32, 12, 3))[0]
    words = []
    for _ in range(count):
        part = word(random, 1, 3)
        if random.random() < 0.3:
            part += random.choice(_ENDINGS)
        words.append(part if len(part) > 1 else part + word(random, 1, 2))
    if random.random() < 0.08:
        words.insert(random.randint(0, 1), random.choice("ABDEFHIJKLMNRSTWY") + random.choice((".", "")))
    if random.random() < 0.03:
        words[0] = words[0][:2] + "'" + words[0][2:]
    if random.random() < 0.06 and count > 1:
        words.insert(1, "BINTI" if female else "BIN")
    name = " ".join(words)
    if random.random() < 0.06:
        name = random.choice(("H. ", "HJ. ", "DR. ", "DRS. ", "IR. ", "RR. ")) + name
    if random.random() < 0.08:
        name += ", " + random.choice(_TITLES)
    return name[:60].strip(" ,.")


def place(random: Random) -> str:
    """A village, district or town."""
    kind = random.random()
    if kind < 0.35:
        name = word(random, 2, 3)
    elif kind < 0.6:
        name = word(random, 1, 2) + random.choice(_PLACE_ENDINGS)
    elif kind < 0.8:
        name = random.choice(_PLACE_BEGINNINGS) + random.choice((" ", "")) + word(random, 1, 2)
    else:
        name = word(random, 2, 3) + " " + random.choice((*_DIRECTIONS, word(random, 2, 2)))
    if random.random() < 0.05:
        name += " " + random.choice(("I", "II", "III", "IV", "1", "2", "3"))
    return name
