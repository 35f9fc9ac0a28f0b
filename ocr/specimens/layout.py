"""The layout of a card, as fractions of its width and height. It is jittered, because print runs differ."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

#: width divided by height of an ID-1 card
CARD_RATIO = 85.60 / 53.98


@dataclass(frozen=True, slots=True)
class Layout:
    """One print run. x and widths are parts of the card's width; y and heights of its height; y is a row's centre."""

    header_y: tuple[float, float]
    header_size: float
    label_x: float
    sub_label_x: float
    colon_x: float
    value_x: float
    value_x_max: float
    number_x: float
    number_y: float
    first_row_y: float
    row_step: float
    #: of the letters: pixels to the em, by the card's height
    label_size: float
    value_size: float
    number_size: float
    blood_label_x: float
    #: left, top, right, bottom
    photo: tuple[float, float, float, float]
    issue_x: float
    issue_y: tuple[float, float]
    signature: tuple[float, float, float, float]
    #: extra space between the letters of values, and of the number, in parts of the em
    value_spacing: float
    number_spacing: float
    #: whether labels are printed in capitals, and whether values are bold
    capital_labels: bool
    bold_values: bool


def make_layout(random: Random, rows: int) -> Layout:
    """Draw a layout for ``rows`` rows below the number. More than 13 rows are spaced more closely."""

    def around(middle: float, spread: float) -> float:
        return random.uniform(middle - spread, middle + spread)

    value_size = around(0.0445, 0.0045)
    first_row = around(0.257, 0.01)
    # The last row must stay on the card.
    step = min(around(0.053, 0.0032), (0.93 - first_row) / (rows - 1))
    colon_x = around(0.222, 0.014)
    value_x = colon_x + around(0.018, 0.006)
    dy = around(0, 0.008)
    shift = around(0, 0.008)
    return Layout(
        header_y=(0.045 + dy, 0.1 + dy + around(0, 0.004)),
        header_size=around(0.05, 0.006),
        label_x=0.028 + shift,
        sub_label_x=0.055 + shift + around(0, 0.01),
        colon_x=colon_x + shift,
        value_x=value_x + shift,
        value_x_max=0.738,
        number_x=value_x + shift + around(0, 0.012),
        number_y=around(0.181, 0.008),
        first_row_y=first_row,
        row_step=step,
        label_size=value_size * random.choice((1, 1, 0.95)),
        value_size=value_size,
        number_size=around(0.066, 0.01),
        blood_label_x=around(0.53, 0.025),
        photo=(0.75 + around(0, 0.008), 0.175 + around(0, 0.015), 0.958, 0.635 + around(0, 0.02)),
        issue_x=around(0.853, 0.008),
        issue_y=(0.68 + dy, 0.728 + dy),
        signature=(0.79, 0.79, 0.92, 0.86),
        value_spacing=random.choice((0, 0, 0, random.uniform(0, 0.06))),
        number_spacing=random.choice((0, 0, random.uniform(0, 0.12))),
        capital_labels=random.random() < 0.08,
        bold_values=random.random() < 0.12,
    )
