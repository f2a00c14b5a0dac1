"""A picture for people: one frame as it was received, and beside it as it was reconstructed."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from inference.pixels import read_cine

_BEFORE = "as received"
_AFTER = "reconstructed; outside the border generated, not measured"
_GAP = 8
_PAPER, _INK = 24, 220


def before_after(source: Dataset, result: Dataset, frame: int) -> Image.Image:
    """One frame of an image and of its result, side by side in the same grey scale, with captions.

    source, result: data sets with pixel data; both hold the same stored values where they were measured.
    frame: its index, from 0; a result of one frame shows that one.
    Raises UnsupportedImage for pixel data that cannot be decoded.
    """
    cine = read_cine(source)
    made = read_cine(result).stored
    before = cine.mapping.to_grey(cine.stored[frame : frame + 1])[0]
    index = min(frame, len(made) - 1)
    after = cine.mapping.to_grey(made[index : index + 1].astype(cine.stored.dtype))[0]
    return _side_by_side(_picture(before), _picture(after))


def _picture(grey: NDArray[np.float32]) -> Image.Image:
    """(h, w) grey in [-1, 1] as an 8-bit picture."""
    return Image.fromarray(np.round((grey.clip(-1, 1) + 1) * 127.5).astype(np.uint8))


def _side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    size = max(10, left.height // 36)
    font = ImageFont.load_default(size)
    strip = 2 * size
    sheet = Image.new("L", (left.width + _GAP + right.width, left.height + strip), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for picture, caption, x in ((left, _BEFORE, 0), (right, _AFTER, left.width + _GAP)):
        sheet.paste(picture, (x, 0))
        pen.text((x + picture.width / 2, left.height + strip / 2), caption, fill=_INK, font=font, anchor="mm")
    return sheet
