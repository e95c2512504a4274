"""One picture of a dashboard, composed of the pictures of its figures."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, HEADING = 1200, 12, 34  # pixels


def composed(heading: str, pictures: Sequence[bytes], *, columns: int = 2) -> bytes:
    """A PNG with `heading` above the pictures (PNG), in rows of `columns`, each row as high as its highest.

    Raises: OSError for bytes that are no picture.
    """
    across = max(min(columns, len(pictures)), 1)
    cell = (WIDTH - (across + 1) * MARGIN) // across
    images = [_scaled(Image.open(io.BytesIO(picture)).convert("RGB"), cell) for picture in pictures]
    rows = [images[start : start + across] for start in range(0, len(images), across)]
    height = HEADING + sum(max(image.height for image in row) + MARGIN for row in rows)
    sheet = Image.new("RGB", (WIDTH, height), "white")
    ImageDraw.Draw(sheet).text((MARGIN, 9), heading, fill="black", font=ImageFont.load_default(size=15))
    top = HEADING
    for row in rows:
        for column, image in enumerate(row):
            sheet.paste(image, (MARGIN + column * (cell + MARGIN), top))
        top += max(image.height for image in row) + MARGIN
    out = io.BytesIO()
    sheet.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _scaled(image: Image.Image, width: int) -> Image.Image:
    height = max(round(image.height * width / image.width), 1)
    return image if image.width == width else image.resize((width, height), Image.Resampling.LANCZOS)
