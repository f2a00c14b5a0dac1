"""The words of the mark can be read where it says that they are, in the picture as dcmtk shows it.

Read means: what is shown there correlates with the words written by themselves, in any size, and strokes differ from
ground by most of the way from black to white.
"""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from config.font import font
from config.mark import Mark
from dicom_node.objects.mark import label_box
from dicom_node.objects.secondary_capture import secondary_captures
from tests.factory import Box, centre, reconstruction, write, xa

SIDES = (256, 1024)
#: From black to white in stored values: narrower than 12 bits.
BLACK, WHITE = 1000, 2500
#: Normalised correlation, and contrast as a share of black to white, from which words count as read.
CORRELATION, CONTRAST = 0.95, 0.95


def flat(grey):
    return lambda side: np.random.default_rng(0).normal(grey, 0.02, (side, side))


def noise(side):
    return np.random.default_rng(0).uniform(0, 1, (side, side))


def stripes(side):
    """Upright and as wide as the strokes of the letters, about."""
    return np.broadcast_to(np.arange(side) // max(1, side // 256) % 2, (side, side)).astype(float)


#: What was generated, as shown: 0 black, 1 white.
GROUNDS = {"dark": flat(0.1), "bright": flat(0.9), "noise": noise, "stripes": stripes}

USUAL = Mark()
#: Marks that a route can ask for, each on the ground that is hardest for it, and the sign of their contrast.
MARKS = {
    "bright on bright": (Mark(contrast="bright", position="top-right"), "bright", 1),
    "dark on dark": (Mark(contrast="dark"), "dark", -1),
    "Cyrillic": (Mark(contrast="bright", label="СГЕНЕРИРОВАНО - НЕ ИЗМЕРЕНО"), "stripes", 1),
}


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_the_words_are_read_on_whatever_was_generated(ground, side, photometric, tmp_path):
    shown, box = marked(GROUNDS[ground](side), photometric, tmp_path)
    correlation, contrast = read(shown[box])
    assert abs(correlation) >= CORRELATION
    assert abs(contrast) >= CONTRAST


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("mark", "ground", "sign"), MARKS.values(), ids=MARKS)
def test_the_words_of_another_mark_are_read_where_and_as_it_says(mark, ground, sign, side, tmp_path):
    shown, box = marked(GROUNDS[ground](side), "MONOCHROME2", tmp_path, mark=mark)
    correlation, contrast = read(shown[box], mark.label)
    assert sign * correlation >= CORRELATION
    assert sign * contrast >= CONTRAST
    if mark.position == "top-right":
        down, across = (place.start + place.stop for place in box)
        assert down < side < across


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_the_words_are_read_upright_in_a_narrow_strip(ground, side, tmp_path):
    strip = side // 10
    shown, box = marked(GROUNDS[ground](side), "MONOCHROME2", tmp_path, Box(strip, 0, side - strip, side))
    correlation, contrast = read(shown[box])
    assert shown[box].shape[0] > side // 4 > shown[box].shape[1]
    assert abs(correlation) >= CORRELATION
    assert abs(contrast) >= CONTRAST


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("side", SIDES)
def test_the_words_are_white_where_it_is_dark_and_black_where_it_is_bright(side, photometric, tmp_path):
    on = {ground: marked(GROUNDS[ground](side), photometric, tmp_path) for ground in ("dark", "bright")}
    assert {ground: np.sign(read(shown[box])[1]) for ground, (shown, box) in on.items()} == {"dark": 1, "bright": -1}
    # And the ground that they bring along is no patch: black in the dark, white where it is bright.
    patch = {ground: np.median(shown[box]) for ground, (shown, box) in on.items()}
    assert patch["dark"] < 0.1
    assert patch["bright"] > 0.9


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_words_in_the_wrong_contrast_are_not_read(ground, side, tmp_path):
    """In the grey that the ground has most, and without a ground of their own: the measure tells them from the mark."""
    grey = GROUNDS[ground](side).clip(0, 1)
    _, box = marked(grey, "MONOCHROME2", tmp_path)
    page = max(pages(grey[box].shape), key=np.sum)
    ink = float(np.median(grey) > 0.5)
    correlation, contrast = read(grey[box] + page * (ink - grey[box]))
    assert abs(correlation) < CORRELATION
    assert abs(contrast) < CONTRAST


def marked(ground, photometric, folder, aperture=None, mark=USUAL):
    """A result with this ground outside its aperture, as dcmtk shows it in its window, and the place of the label."""
    side = len(ground)
    aperture = aperture or centre(side, side)
    source = xa(
        frames=1,
        rows=side,
        columns=side,
        photometric=photometric,
        aperture=aperture,
        WindowCenter=(BLACK + WHITE) / 2 + 0.5,
        WindowWidth=WHITE - BLACK + 1,
    )
    made = reconstruction(source, aperture)
    grey = 1 - ground if photometric == "MONOCHROME1" else ground
    values = np.rint(BLACK + grey * (WHITE - BLACK)).astype(made.stored.dtype)
    made = replace(made, stored=np.where(made.aperture, made.stored, values))
    (picture,) = secondary_captures(source, made, route="all", mark=mark)
    path = write(picture, folder / "marked.dcm")
    subprocess.run(["dcm2pnm", "+Wi", "1", path, path.with_suffix(".pgm")], check=True, capture_output=True)
    left, top, right, bottom = label_box(made.aperture[0], mark)
    return np.asarray(Image.open(path.with_suffix(".pgm"))) / 255, np.s_[top:bottom, left:right]


def read(shown, label=USUAL.label):
    """Correlation and contrast of the words that fit best: both positive for bright words on a dark ground."""
    return max((likeness(shown, page) for page in pages(shown.shape, label)), key=lambda both: abs(both[0]))


def likeness(shown, page):
    words, seen = page - page.mean(), shown - shown.mean()
    along = float((words * seen).sum())
    return along / float(np.linalg.norm(words) * np.linalg.norm(seen)), along / float((words**2).sum())


def pages(shape, label=USUAL.label):
    """The words by themselves amid a page, in every size and layout that fits: (h, w) in [0, 1], 1 = ink."""
    at = label.index(" - ")
    lines = [label, label[:at] + "\n" + label[at + 3 :]]
    for text in lines:
        for size in range(10, 49):
            for upright in (False, True):
                page = written(text, size, shape[::-1] if upright else shape)
                if page is not None:
                    yield np.rot90(page) if upright else page


def written(text, size, shape):
    page = Image.new("L", shape[::-1])
    face = font("", size)
    left, top, right, bottom = ImageDraw.Draw(page).multiline_textbbox((0, 0), text, font=face)
    if right - left > shape[1] or bottom - top > shape[0]:
        return None
    at = (shape[1] - (right - left)) // 2 - left, (shape[0] - (bottom - top)) // 2 - top
    ImageDraw.Draw(page).multiline_text(at, text, fill=255, font=face)
    return np.asarray(page) / 255
