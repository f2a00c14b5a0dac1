"""The bits of a decoded pixel, and those that the header says it has: code streams have a precision of their own."""

import numpy as np
from numpy.typing import NDArray

from config.errors import UnsupportedImage

#: So much of a picture may lie beyond its range after a lossy codec, which overshoots at edges.
_OVERSHOOT = 0.01


def within_its_bits(frame: NDArray[np.integer], bits_stored: int, *, signed: bool, lossy: bool) -> NDArray[np.integer]:
    """A frame as a codec gives it, with the bits above the stored ones holding nothing but the sign.

    Codecs give signed values either as such or as the patterns of their bits. What a lossy one has overshot comes back
    into the range. Raises UnsupportedImage where the values need more bits: cutting these off makes another picture.
    """
    lowest, highest = -(1 << (bits_stored - 1)) if signed else 0, (1 << bits_stored) - 1
    beyond = (frame < lowest) | (frame > highest)
    if beyond.mean() > (_OVERSHOOT if lossy else 0):
        raise UnsupportedImage(
            f"BitsStored is {bits_stored} and PixelRepresentation {int(signed)}, but the compressed pixels have other "
            "values than these allow (PS3.3 C.7.6.3, PS3.5 8.2); send it again, or the vendor mends the header."
        )
    if lossy and beyond.any():
        frame = np.clip(frame, lowest, highest >> signed)
    if signed:
        wide = frame.astype(np.int32)
        frame = np.where(wide > highest >> 1, wide - (highest + 1), wide)
    return frame
