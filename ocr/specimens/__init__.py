"""Fictional KTP specimens: cards that cannot exist, marked as specimens, with the right answers.

A specimen is a function of its seed and index, on every machine with the pinned packages.
"""

from ocr.specimens.conditions import CONDITIONS
from ocr.specimens.specimen import Specimen, make_specimen

__all__ = ["CONDITIONS", "Specimen", "make_specimen"]
