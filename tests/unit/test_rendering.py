"""Frames as pictures: what a viewer would show first, and under what was generated in part a word of that."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from config.errors import UnsupportedImage
from dicom_node.objects.rendering import rendered
from dicom_node.view import View, Window
from tests.factory import write, xa

PNG = View(media_type="image/png")


def shown(dataset: Dataset, folder: Path, frame: int = 0, view: View = PNG) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(rendered(write(dataset, folder / "one.dcm"), frame, view)))).astype(int)


def ramp(**how) -> Dataset:
    """Two frames of all levels from 0 to 4095, in rising and in falling order."""
    levels = np.linspace(0, 4095, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    return xa(stored=np.stack([levels, levels[::-1, ::-1]]), aperture=None, **how)


def test_a_picture_of_a_result_says_that_it_holds_generated_pixels_and_covers_none(tmp_path):
    plain, result = ramp(), ramp(SyntheticData="YES")
    picture, marked = shown(plain, tmp_path), shown(result, tmp_path)
    assert picture.shape == (64, 64)
    assert (marked[:64] == picture).all()
    strip = marked[64:]
    assert strip.shape[0] >= 9 and strip.max() - strip.min() > 100
    small = shown(result, tmp_path, view=View(media_type="image/png", size=(48, 48)))
    assert max(small.shape) <= 48 and np.ptp(small[-6:]) > 50


def test_the_lowest_value_is_white_where_the_image_says_so(tmp_path):
    assert np.abs(shown(ramp(photometric="MONOCHROME1"), tmp_path) + shown(ramp(), tmp_path) - 255).max() <= 1


def test_each_frame_has_its_own_window_unless_another_is_asked_for(tmp_path):
    dataset = ramp(missing=["WindowCenter", "WindowWidth"])
    groups = []
    for centre in (1024, 3072):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 1000
        groups.append(Dataset())
        groups[-1].FrameVOILUTSequence = Sequence([voi])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    first, second = (shown(dataset, tmp_path, frame) for frame in (0, 1))
    levels = dataset.pixel_array
    for picture, stored, centre in ((first, levels[0], 1024), (second, levels[1], 3072)):
        assert (picture[stored < centre - 501] == 0).all() and (picture[stored > centre + 501] == 255).all()
    window = Window(centre=2048, width=100, function="LINEAR_EXACT")
    asked = shown(dataset, tmp_path, 1, View(media_type="image/png", window=window))
    assert (asked[levels[1] < 1998] == 0).all() and (asked[levels[1] > 2098] == 255).all()


@pytest.mark.parametrize("syntax", [None, JPEGBaseline8Bit])
def test_colours_stay_colours(tmp_path, syntax):
    colours = np.zeros((1, 64, 64, 3), np.uint8)
    colours[..., 0], colours[..., 2] = 200, 50
    path = write(xa(stored=colours, bits_stored=8, photometric="RGB"), tmp_path / "one.dcm", syntax)
    picture = np.asarray(Image.open(BytesIO(rendered(path, 0, PNG)))).astype(int)
    assert np.abs(picture - colours[0]).max() <= 3


def test_a_palette_gives_its_colours(tmp_path):
    dataset = xa(stored=np.tile(np.arange(4, dtype=np.uint8), (1, 64, 16)), bits_stored=8, aperture=None)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour, values in {"Red": [0, 255, 0, 0], "Green": [0, 0, 255, 0], "Blue": [0, 0, 0, 255]}.items():
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        words = b"".join((value * 257).to_bytes(2, "little") for value in values)
        setattr(dataset, f"{colour}PaletteColorLookupTableData", words)
    picture = shown(dataset, tmp_path)
    assert picture[0, :4].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_a_mask_of_one_bit_a_pixel_is_black_and_white(tmp_path):
    mask = np.random.default_rng(0).integers(0, 2, (2, 20, 20), dtype=np.uint8)
    dataset = xa(stored=np.zeros((2, 20, 20), np.uint8), bits_stored=8, missing=["WindowCenter", "WindowWidth"])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelData = np.packbits(mask.reshape(-1), bitorder="little").tobytes()
    assert (shown(dataset, tmp_path, 1) == mask[1] * 255).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "NumberOfFrames": 1, "Rows": 32},
        {"PhotometricInterpretation": "HSV"},
        {"Rows": 0},
        {"ModalityLUTSequence": [Dataset()]},
    ],
)
def test_what_cannot_be_shown_is_told_in_a_sentence(tmp_path, wrong):
    dataset = ramp()
    for keyword, value in wrong.items():
        setattr(dataset, keyword, value)
    with pytest.raises(UnsupportedImage, match=r"\.$"):
        shown(dataset, tmp_path)
