"""Small colour pictures of road signs, drawn: what matters in them is a few pixels wide, and no photo of ImageNet looks like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, DRAWN = 32, 128
"""Pixels a side of a picture, and of the drawing from which it is made."""
SPEEDS = ("20", "30", "50", "60", "70", "80")
CLASSES = (*SPEEDS, "attention", "parking", "stop", "left")
RED, BLUE, WHITE, BLACK = (200, 30, 30, 255), (30, 60, 200, 255), (245, 245, 245, 255), (10, 10, 10, 255)


def sign_images(of_each: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw each sign `of_each` times: uint8 `(n, SIDE, SIDE, 3)` and labels `(n,)`.

    Each has a random background, size, place, angle, brightness and noise.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), of_each)
    signs = [_sign(name) for name in CLASSES]
    return np.stack([_seen(signs[label], rng) for label in labels]), labels


def _sign(name: str) -> Image.Image:
    """The sign as it should look, on a transparent ground."""
    page = Image.new("RGBA", (DRAWN, DRAWN), (0, 0, 0, 0))
    draw = ImageDraw.Draw(page)
    middle = DRAWN // 2
    if name in SPEEDS:
        draw.ellipse((14, 14, 114, 114), fill=RED)
        draw.ellipse((26, 26, 102, 102), fill=WHITE)
        draw.text((middle, middle), name, fill=BLACK, font=_font(44), anchor="mm")
    elif name == "attention":
        draw.polygon([(64, 12), (116, 108), (12, 108)], fill=RED)
        draw.polygon([(64, 34), (98, 98), (30, 98)], fill=WHITE)
        draw.text((middle, 76), "!", fill=BLACK, font=_font(44), anchor="mm")
    elif name == "parking":
        draw.rectangle((16, 16, 112, 112), fill=BLUE)
        draw.text((middle, middle), "P", fill=WHITE, font=_font(80), anchor="mm")
    elif name == "stop":
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        draw.polygon([(64 + 52 * np.cos(angle), 64 + 52 * np.sin(angle)) for angle in angles], fill=RED)
        draw.text((middle, middle), "STOP", fill=WHITE, font=_font(30), anchor="mm")
    else:
        draw.ellipse((14, 14, 114, 114), fill=BLUE)
        draw.polygon([(28, 64), (60, 36), (60, 54), (100, 54), (100, 74), (60, 74), (60, 92)], fill=WHITE)
    return page


def _seen(sign: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """One picture of a sign, uint8 `(SIDE, SIDE, 3)`."""
    page = Image.new("RGB", (DRAWN, DRAWN), _colour(rng))
    draw = ImageDraw.Draw(page)
    for _ in range(6):
        (x, y), (w, h) = rng.integers(0, DRAWN, 2), rng.integers(10, 60, 2)
        draw.rectangle((int(x), int(y), int(x + w), int(y + h)), fill=_colour(rng))
    side = int(DRAWN * rng.uniform(0.55, 1.0))
    turned = sign.rotate(float(rng.normal(0, 10)), resample=Image.Resampling.BILINEAR).resize((side, side), Image.Resampling.BILINEAR)
    x, y = rng.integers(0, DRAWN - side + 1, 2)
    page.paste(turned, (int(x), int(y)), turned)
    pixels = np.asarray(page.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(float)
    lit = pixels * rng.uniform(0.35, 1.1) + rng.uniform(-30, 30) + rng.normal(0, rng.uniform(3, 18), pixels.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(20, 230, 3)
    return int(red), int(green), int(blue)


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), size)
