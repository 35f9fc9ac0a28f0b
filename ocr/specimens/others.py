"""Pictures that show no KTP. The right answer to them is empty strings."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw

from ocr.specimens import names
from ocr.specimens.background import clouds, silhouette
from ocr.specimens.fonts import Faces, font


def draw_other(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    """A blank sheet, a receipt, another kind of card, a driving licence's layout, or a landscape."""
    kind = random.choice((_blank, _receipt, _member_card, _licence, _landscape))
    return kind(random, faces, size)


def _blank(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    base = (random.randint(0, 255), random.randint(0, 255), random.randint(0, 255))
    return clouds(random, size, base, random.randint(2, 40))


def _receipt(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    width, height = size
    image = clouds(random, size, (120, 105, 95), 30)
    draw = ImageDraw.Draw(image)
    left, right = 0.28 * width, 0.72 * width
    draw.rectangle((left, 0, right, height), fill=(245, 244, 238))
    letters = font(random.choice(faces.number), height * random.uniform(0.035, 0.05))
    y = height * 0.06
    while y < height * 0.95:
        line = f"{names.word(random, 1, 3)} {random.randint(1, 9)}x"
        draw.text((left + 8, y), line, fill=(60, 60, 60), font=letters.pillow)
        price = f"{random.randint(1, 250)}.{random.choice(('000', '500'))}"
        draw.text((right - 8, y), price, fill=(60, 60, 60), font=letters.pillow, anchor="ra")
        y += height * 0.065
    return image


def _member_card(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    width, height = size
    image = clouds(random, size, (random.randint(20, 200), random.randint(20, 200), random.randint(20, 200)), 40)
    draw = ImageDraw.Draw(image)
    big = font(random.choice(faces.bold), height * 0.09)
    number = font(random.choice(faces.number), height * 0.08)
    ink = random.choice(((250, 250, 250), (20, 20, 20), (240, 215, 120)))
    draw.text((0.06 * width, 0.08 * height), f"KARTU {names.word(random, 1, 2)}", fill=ink, font=big.pillow)
    groups = " ".join(f"{random.randint(0, 9999):04d}" for _ in range(4))
    draw.text((0.06 * width, 0.55 * height), groups, fill=ink, font=number.pillow)
    draw.text((0.06 * width, 0.78 * height), names.person(random, False), fill=ink, font=big.pillow)
    return image


def _licence(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    width, height = size
    image = clouds(random, size, (random.randint(200, 245), random.randint(200, 240), random.randint(200, 240)), 15)
    draw = ImageDraw.Draw(image)
    bold = font(random.choice(faces.bold), height * 0.07)
    plain = font(random.choice(faces.regular), height * 0.055)
    draw.text((width / 2, 0.07 * height), "SURAT IZIN MENGEMUDI", fill=(30, 30, 30), font=bold.pillow, anchor="mm")
    silhouette(image, random, (0.05 * width, 0.25 * height, 0.28 * width, 0.8 * height))
    for i in range(random.randint(4, 7)):
        text = f"{i + 1}. {names.place(random)} {random.randint(1, 99):02d}-{random.randint(1, 12):02d}-2020"
        draw.text((0.33 * width, (0.25 + 0.09 * i) * height), text, fill=(40, 40, 40), font=plain.pillow)
    return image


def _landscape(random: Random, faces: Faces, size: tuple[int, int]) -> Image.Image:
    width, height = size
    image = clouds(random, size, (130, 170, 220), 30)
    draw = ImageDraw.Draw(image)
    for layer in range(3):
        y = height * (0.45 + 0.18 * layer)
        points = [(width * i / 8, y + random.uniform(-0.1, 0.1) * height) for i in range(9)]
        shade = random.randint(40, 120)
        draw.polygon([*points, (width, height), (0, height)], fill=(shade // 2, shade, shade // 3))
    return image
