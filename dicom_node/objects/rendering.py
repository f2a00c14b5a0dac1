"""One frame of a stored object as a picture for people, with its own window or another (PS3.4 N.2, PS3.18 8.3.5)."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from config.errors import UnsupportedImage
from dicom_node.stored_picture import StoredPicture, opened
from dicom_node.view import View, Window
from inference.grey_mapping import grey_mapping
from inference.header import items, value_of

#: What stands under every picture that was generated in part, whether or not its pixels have a mark of their own.
_CAPTION = "holds generated pixels"
_PAPER, _INK = 24, 220
_SMALLEST_TEXT = 9


def rendered(path: Path, frame: int, view: View) -> bytes:
    """A frame, from 0, of a part-10 file as a JPEG or PNG file; raises UnsupportedImage for what cannot be shown."""
    with opened(path) as (header, picture):
        if picture is None:
            raise UnsupportedImage("The object holds no picture.")
        try:
            image = _image(header, picture, frame, view.window)
            image = _cut(image, view, captioned=value_of(header, "SyntheticData") == "YES")
        except UnsupportedImage:
            raise
        except Exception as error:  # headers and palettes fail in as many ways as they have parts
            raise UnsupportedImage("The object's header does not say how its picture is to be shown.") from error
    file = BytesIO()
    if view.media_type == "image/png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=view.quality)
    return file.getvalue()


def _image(header: Dataset, picture: StoredPicture, frame: int, window: Window | None) -> Image.Image:
    pixels, described = picture.decode(frame)
    photometric = value_of(header, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return Image.fromarray(_bytes(apply_color_lut(pixels, header)))
    if described["samples_per_pixel"] == 3:
        return Image.fromarray(_bytes(pixels))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or picture.bits_allocated not in (1, 8, 16):
        raise UnsupportedImage(f"A picture of {photometric or 'no'} Photometric Interpretation cannot be shown.")
    grey = grey_mapping(_of_frame(header, frame, window)).to_grey(pixels)
    return Image.fromarray(np.round((grey.clip(-1, 1) + 1) * 127.5).astype(np.uint8))


def _of_frame(header: Dataset, frame: int, window: Window | None) -> Dataset:
    """The header as if it were that of one frame, with another window if one is given."""
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    if groups:
        header.PerFrameFunctionalGroupsSequence = groups[frame : frame + 1]
    if window is None:
        return header
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, keyword):
            group.pop("FrameVOILUTSequence", None)
    header.pop("VOILUTSequence", None)
    header.WindowCenter, header.WindowWidth = str(window.centre)[:16], str(window.width)[:16]
    header.VOILUTFunction = window.function
    return header


def _cut(image: Image.Image, view: View, *, captioned: bool) -> Image.Image:
    """The part that is to be seen, as large as it is to be, with the caption under it."""
    if view.region is not None:
        left, top, columns, rows = view.region
        box = (left, top, min(left + columns, image.width), min(top + rows, image.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise UnsupportedImage("The part of the picture that is asked for lies outside of it.")
        image = image.crop(box)
    height = image.height if view.size is None else view.size[1]
    text = max(_SMALLEST_TEXT, height // 36)
    strip = text * 3 // 2 if captioned else 0
    if view.size is not None:
        image = ImageOps.contain(image, (view.size[0], max(1, view.size[1] - strip)), Image.Resampling.LANCZOS)
    if not captioned:
        return image
    sheet = Image.new(image.mode, (image.width, image.height + strip), _colour(image, _PAPER))
    sheet.paste(image, (0, 0))
    middle = (image.width / 2, image.height + strip / 2)
    font = ImageFont.load_default(text)
    ImageDraw.Draw(sheet).text(middle, _CAPTION, fill=_colour(image, _INK), font=font, anchor="mm")
    return sheet


def _colour(image: Image.Image, level: int) -> Any:
    return level if image.mode == "L" else (level,) * 3


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours of 8 or 16 bits as bytes."""
    return (pixels >> 8 if pixels.dtype.itemsize == 2 else pixels).astype(np.uint8)
