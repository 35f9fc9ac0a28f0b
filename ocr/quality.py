"""The quality of a picture: simple measures of its pixels, and a flag for each that is out of bounds.

They measure the picture and not the card, so a white table may look like glare. The bounds were set on drawn specimens;
``docs/ktp-api.md`` has their recall and precision.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from PIL import Image, ImageFilter

#: pictures are measured at this many pixels of the longer side, so that the bounds hold for every size
MEASURED_SIDE = 1024
#: below this many pixels of the longer side, letters are less than ten pixels high
MIN_SIDE = 640
#: bounds of ``sharpness``: below the first the picture is blurred, below the second it has fewer details than pixels
BLURRED_BELOW, SOFT_BELOW = 0.68, 1.08
#: lower bound of ``brightness``
DARK_BELOW = 0.665
#: bounds of ``glare``, and of the difference between the brightest tenth and the median brightness
GLARE_ABOVE, GLARE_STEP = 0.01, 14
#: upper bound of ``tilt``, degrees
TILTED_ABOVE = 2.5
#: lower bound of ``colour``; photocopies have none
GREY_BELOW = 0.02
#: side of the blocks that glare is measured in, pixels
BLOCK = 16


class Quality(TypedDict):
    """The measures of a picture. Shares are from 0 to 1, rounded."""

    width: int
    height: int
    #: fine detail in relation to coarse detail, from 0; a sharp picture has about 1.3
    sharpness: float
    #: mean brightness of the brightest tenth of the pixels
    brightness: float
    #: share of the picture that is white and without colour beside the rest
    glare: float
    #: degrees to the right, between -45 and 45
    tilt: float
    #: mean difference between the three colours
    colour: float
    #: any of blurred, low_detail, small, dark, glare, tilted, grey_copy
    flags: list[str]


def measure(image: Image.Image) -> Quality:
    """The measures of an upright RGB picture. Takes some 100 ms of CPU."""
    scale = MEASURED_SIDE / max(image.size)
    size = (max(BLOCK, round(image.width * scale)), max(BLOCK, round(image.height * scale)))
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    grey = picture.convert("L")
    light = np.asarray(grey, dtype=np.float32)
    pixels = np.asarray(picture, dtype=np.int16)
    colours = (pixels.max(axis=2) - pixels.min(axis=2)).astype(np.float32)
    middle, bright, top = np.percentile(light, (50, 90, 99.5))
    found: Quality = {
        "width": image.width,
        "height": image.height,
        "sharpness": round(_sharpness(grey, light), 3),
        "brightness": round(float(bright) / 255, 3),
        "glare": round(_glare(light, colours, float(top)), 3),
        "tilt": round(_tilt(light), 1),
        "colour": round(float(colours.mean()) / 255, 3),
        "flags": [],
    }
    checks = {
        "blurred": found["sharpness"] < BLURRED_BELOW,
        "low_detail": BLURRED_BELOW <= found["sharpness"] < SOFT_BELOW,
        "small": max(image.size) < MIN_SIDE,
        "dark": found["brightness"] < DARK_BELOW,
        "glare": found["glare"] > GLARE_ABOVE and bright - middle > GLARE_STEP,
        "tilted": abs(found["tilt"]) > TILTED_ABOVE,
        "grey_copy": found["colour"] < GREY_BELOW,
    }
    found["flags"] = [flag for flag, is_so in checks.items() if is_so]
    return found


def _sharpness(grey: Image.Image, light: np.ndarray) -> float:
    """The strongest details of one pixel, relative to those of a few pixels. Blur removes only the former."""
    near, far = (np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) for radius in (1, 2))
    wide = np.asarray(grey.filter(ImageFilter.GaussianBlur(4)), dtype=np.float32)
    fine, coarse = np.percentile(np.abs(light - near), 99.5), np.percentile(np.abs(far - wide), 99.5)
    return float(fine / max(1.0, coarse))


def _glare(light: np.ndarray, colours: np.ndarray, top: float) -> float:
    """The share of blocks that are as bright as anything in the picture and have lost their colour."""
    brightness, colour = _blocks(light, BLOCK), _blocks(colours, BLOCK)
    return float(((brightness > top - 6) & (colour < np.median(colour) * 0.6)).mean())


def _tilt(light: np.ndarray) -> float:
    """The direction of most edges (letters, lines, the card) in degrees; 0 for a picture without edges."""
    small = _blocks(light, 2)
    small = (small[:-2] + 2 * small[1:-1] + small[2:]) / 4
    small = (small[:, :-2] + 2 * small[:, 1:-1] + small[:, 2:]) / 4
    if min(small.shape) < 3:
        return 0.0
    across, down = small[1:-1, 2:] - small[1:-1, :-2], small[2:, 1:-1] - small[:-2, 1:-1]
    strength = np.hypot(across, down)
    edges = strength > max(1.0, float(np.percentile(strength, 92)))
    if not edges.any():
        return 0.0
    degrees = (np.degrees(np.arctan2(down[edges], across[edges])) + 45) % 90 - 45
    # A single bright line must not outvote the letters.
    counts, _ = np.histogram(degrees, bins=180, range=(-45, 45), weights=np.minimum(strength[edges], 60))
    counts = np.convolve(np.concatenate([counts[-3:], counts, counts[:3]]), (1, 2, 3, 4, 3, 2, 1), "valid")
    return float(counts.argmax() / 2 - 44.75)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    """The means of square blocks; incomplete blocks at the right and the bottom are ignored."""
    height, width = (length // side * side for length in values.shape)
    means: np.ndarray = values[:height, :width].reshape(height // side, side, width // side, side).mean(axis=(1, 3))
    return means
