"""Effects of cameras, copiers and files on a picture: light, blur, noise, compression."""

from __future__ import annotations

import functools
import io
from random import Random

import numpy as np
from PIL import Image, ImageFilter


def _generator(random: Random) -> np.random.Generator:
    return np.random.default_rng(random.getrandbits(64))


def grain(random: Random, picture: Image.Image, strength: float) -> Image.Image:
    """Noise of a standard deviation of ``strength`` of 255, the same for the three colours."""
    pixels = np.asarray(picture, dtype=np.int16)
    # One long array, read from a random offset: half a million normal numbers take longer to draw than the card.
    noise = _noise()
    start = random.randrange(len(noise) - pixels.shape[0] * pixels.shape[1])
    layer = noise[start : start + pixels.shape[0] * pixels.shape[1]].reshape(pixels.shape[:2])
    spoiled = pixels + (layer * strength).astype(np.int16)[:, :, None]
    return Image.fromarray(spoiled.clip(0, 255).astype(np.uint8))


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(6_000_000, dtype=np.float32)


def levels(random: Random, picture: Image.Image) -> Image.Image:
    """A little lighter or darker, flatter or harder, and of another tint."""
    contrast, light = random.uniform(0.8, 1.12), random.uniform(-18, 18)
    table: list[int] = []
    for _ in range(3):
        tint = random.uniform(-7, 7)
        table += [max(0, min(255, round((i - 128) * contrast + 128 + light + tint))) for i in range(256)]
    return picture.point(table)


def dim(random: Random, picture: Image.Image) -> Image.Image:
    share = random.uniform(0.62, 0.72)
    dark = picture.point([round(i * share) for i in range(256)] * 3)
    return grain(random, blur(dark, 0.8 * picture.width / 1024 * random.uniform(0.7, 1.3)), random.uniform(4, 9))


def blur(picture: Image.Image, radius: float) -> Image.Image:
    """Gaussian, ``radius`` in pixels."""
    return picture.filter(ImageFilter.GaussianBlur(radius))


def glare(random: Random, picture: Image.Image) -> Image.Image:
    """A bright spot, up to 110 of 255 brighter in its middle."""
    width, height = picture.size
    x0, y0 = random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.9) * height
    spread = random.uniform(0.09, 0.15) * max(width, height)
    x = np.exp(-(((np.arange(width) - x0) / spread) ** 2) / 2)
    y = np.exp(-(((np.arange(height) - y0) / spread) ** 2) / 2)
    light = 110 * random.uniform(0.8, 1.1) * np.outer(y, x)
    return Image.fromarray((np.asarray(picture) + light[:, :, None]).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=quality)
    return Image.open(io.BytesIO(packed.getvalue())).convert("RGB")


def small(random: Random, picture: Image.Image) -> Image.Image:
    """Scale the picture down and up again: it keeps its size and loses its fine details."""
    share = random.uniform(0.47, 0.72)
    width, height = picture.size
    less = picture.resize((round(width * share), round(height * share)), Image.Resampling.BICUBIC)
    return less.resize((width, height), Image.Resampling.BICUBIC)


def photocopy(random: Random, picture: Image.Image) -> Image.Image:
    grey = picture.convert("L")
    contrast, light = random.uniform(1.2, 1.7), random.uniform(0, 25)
    hard = grey.point([max(0, min(255, round((i - 140) * contrast + 165 + light))) for i in range(256)])
    return grain(random, hard.convert("RGB"), random.uniform(3, 10))


def screen(random: Random, picture: Image.Image) -> Image.Image:
    """The stripes of a photographed monitor, and its cold light."""
    width, height = picture.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn, period = random.uniform(-0.5, 0.5), random.uniform(2.3, 7)
    stripes = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    stripes = 9 * random.uniform(0.5, 1.2) * stripes * (1 + 0.5 * np.sin(y / random.uniform(20, 60)))
    pixels = np.asarray(picture) * np.array([0.93, 0.99, 1.05], dtype=np.float32) + stripes[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
