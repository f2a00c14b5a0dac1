import numpy as np
import pytest

from config.errors import UnsupportedImage
from inference.bits import within_its_bits


def grey(*values: int) -> np.ndarray:
    """A frame of 1000 pixels, these and then zeros."""
    return np.array([*values, *[0] * (1000 - len(values))], np.int16).reshape(20, 50)


@pytest.mark.parametrize("signed", [False, True])
def test_what_a_lossy_codec_has_overshot_comes_back_into_the_range(signed):
    lowest, highest = (-512, 511) if signed else (0, 1023)
    found = within_its_bits(grey(1030, -520, 5), 10, signed=signed, lossy=True).ravel()
    assert found[:4].tolist() == [highest, lowest, 5, 0]


@pytest.mark.parametrize("frame", [grey(1024), grey(-1)])
def test_a_lossless_codec_overshoots_nothing(frame):
    with pytest.raises(UnsupportedImage, match="BitsStored is 10 and PixelRepresentation 0"):
        within_its_bits(frame, 10, signed=False, lossy=False)


def test_what_lies_beyond_the_range_all_over_the_picture_was_not_overshot():
    with pytest.raises(UnsupportedImage, match="other values than these allow"):
        within_its_bits(grey(*[1500] * 11), 10, signed=False, lossy=True)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_patterns_of_signed_values_get_their_sign(kind):
    frame = np.array([[0x3FF, 0x200, 0x1FF, 0]], kind)
    assert within_its_bits(frame, 10, signed=True, lossy=False).tolist() == [[-1, -512, 511, 0]]
