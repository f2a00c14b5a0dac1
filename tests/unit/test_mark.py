"""The visible mark: legible where there is room, and never on a measured pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from config.errors import ConfigError
from config.font import LACKING, font
from config.mark import Mark
from dicom_node.objects.mark import _written, draw_mark
from tests.factory import Box, centre, measured

BLACK, WHITE, GREY = 0, 4095, 1500


def marked(boxes, frames, rows, columns, mark=None, background=GREY):
    """A flat grey cine with the mark drawn, its aperture, and what was drawn."""
    stored = np.full((frames, rows, columns), background, dtype=np.uint16)
    aperture = boxes if isinstance(boxes, np.ndarray) else measured(boxes, frames, rows, columns)
    drawn = draw_mark(stored, aperture, np.zeros_like(aperture), mark or Mark(), black=BLACK, white=WHITE)
    return stored, aperture, drawn


def label_of(frame, aperture):
    """The box (top, left, bottom, right) of the pixels drawn away from the aperture's border."""
    changed = frame != GREY
    rows, columns = np.nonzero(aperture)
    changed[max(0, rows.min() - 4) : rows.max() + 5, max(0, columns.min() - 4) : columns.max() + 5] = False
    rows, columns = np.nonzero(changed)
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@st.composite
def apertures(draw):
    rows, columns, frames = draw(st.integers(3, 300)), draw(st.integers(3, 300)), draw(st.integers(1, 3))
    boxes = []
    for _ in range(frames):
        left, right = sorted((draw(st.integers(0, columns)), draw(st.integers(0, columns))))
        top, bottom = sorted((draw(st.integers(0, rows)), draw(st.integers(0, rows))))
        boxes.append(Box(left, top, right, bottom))
    return measured(boxes, frames, rows, columns)


marks = st.builds(
    Mark,
    border=st.sampled_from(["solid", "dashed"]),
    position=st.sampled_from(["auto", "top-left", "top-right", "bottom-left", "bottom-right"]),
    contrast=st.sampled_from(["auto", "bright", "dark"]),
    label=st.sampled_from(["GENERATED - NOT MEASURED", "AI!", "ONE-LONG-WORD-WITHOUT-SPACES"]),
)


@settings(max_examples=150, deadline=None)
@given(aperture=apertures(), mark=marks)
def test_no_measured_pixel_is_ever_touched(aperture, mark):
    stored, _, drawn = marked(aperture, *aperture.shape, mark)
    assert (stored[aperture] == GREY).all()
    assert drawn.frames == len(aperture)
    assert 0 <= drawn.labelled <= drawn.frames


@settings(max_examples=60, deadline=None)
@given(aperture=apertures())
def test_every_generated_pixel_beside_the_aperture_is_border(aperture):
    stored, _, _ = marked(aperture, *aperture.shape, Mark(contrast="bright"))
    beside = np.zeros_like(aperture)
    beside[:, 1:] |= aperture[:, :-1]
    beside[:, :-1] |= aperture[:, 1:]
    beside[:, :, 1:] |= aperture[:, :, :-1]
    beside[:, :, :-1] |= aperture[:, :, 1:]
    assert (stored[beside & ~aperture] == WHITE).all()


@pytest.mark.parametrize(("side", "thickness"), [(256, 1), (512, 2), (1024, 3)])
def test_the_border_grows_with_the_image(side, thickness):
    stored, aperture, _ = marked(centre(side, side), 1, side, side, Mark(contrast="bright"))
    row = stored[0, side // 2]
    left = int(np.argmax(aperture[0, side // 2]))
    assert (row[left - thickness : left] == WHITE).all()
    assert row[left - thickness - 1] == GREY


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_the_label_grows_with_the_image(side):
    stored, aperture, drawn = marked(centre(side, side), 1, side, side)
    top, left, bottom, right = label_of(stored[0], aperture[0])
    assert drawn.labelled == 1
    assert bottom - top >= max(10, side / 32)
    assert side / 3 < right - left < side * 2 / 3


def test_the_label_keeps_its_place_while_the_aperture_moves():
    boxes = [Box(10 + 20 * step, 100, 200 + 20 * step, 400) for step in range(10)]
    stored, aperture, drawn = marked(boxes, 10, 512, 512)
    assert drawn.labelled == 10
    assert len({label_of(frame, mask) for frame, mask in zip(stored, aperture, strict=True)}) == 1


def test_the_label_moves_when_no_place_is_free_in_every_frame():
    boxes = [Box(0, 0, 512, 400), Box(0, 112, 512, 512)]
    stored, aperture, drawn = marked(boxes, 2, 512, 512)
    assert drawn.labelled == 2
    assert label_of(stored[0], aperture[0]) != label_of(stored[1], aperture[1])


@pytest.mark.parametrize("position", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_the_label_stands_in_the_corner_asked_for(position):
    stored, aperture, _ = marked(centre(512, 512), 1, 512, 512, Mark(position=position))
    top, left, bottom, right = label_of(stored[0], aperture[0])
    assert (top < 256 - bottom + 256) == position.startswith("top")
    assert (left < 256 - right + 256) == position.endswith("left")


def test_a_full_corner_sends_the_label_to_where_there_is_room():
    stored, aperture, drawn = marked(Box(0, 0, 512, 300), 1, 512, 512, Mark(position="top-left"))
    assert drawn.labelled == 1
    assert label_of(stored[0], aperture[0])[0] > 300


def test_a_narrow_strip_carries_the_label_upright():
    stored, _, drawn = marked(Box(30, 0, 482, 512), 1, 512, 512)
    assert drawn.labelled == 1
    columns = np.nonzero((stored[0] == BLACK).any(axis=0))[0]
    assert columns.min() >= 484 or columns.max() < 28


def test_without_room_there_is_a_border_only_and_it_is_said():
    stored, _, drawn = marked(Box(4, 4, 252, 252), 1, 256, 256)
    assert drawn.labelled == 0
    assert str(drawn) == "border, no room for the label"
    assert (stored != GREY).any()


@pytest.mark.parametrize(("side", "rim"), [(256, 16), (512, 18), (1024, 18)])
def test_the_thinnest_rim_with_words_is_the_one_that_the_docs_name(side, rim):
    for width, labelled in ((rim, 1), (rim - 1, 0)):
        _, _, drawn = marked(Box(width, width, side - width, side - width), 1, side, side)
        assert drawn.labelled == labelled


def test_a_label_on_some_frames_is_counted():
    _, _, drawn = marked([Box(0, 0, 256, 250), centre(256, 256)], 2, 256, 256)
    assert str(drawn) == "border, label on 1 of 2 frames"


@pytest.mark.parametrize(
    ("contrast", "background", "ink"),
    [("bright", 100, WHITE), ("dark", 100, BLACK), ("auto", 100, WHITE), ("auto", 4000, BLACK)],
)
def test_the_border_stands_out(contrast, background, ink):
    stored, aperture, _ = marked(centre(256, 256), 1, 256, 256, Mark(contrast=contrast), background)
    left = int(np.argmax(aperture[0, 128]))
    assert stored[0, 128, left - 1] == ink


def test_the_label_is_written_in_black_and_white():
    stored, aperture, _ = marked(centre(512, 512), 1, 512, 512)
    top, left, bottom, right = label_of(stored[0], aperture[0])
    text = stored[0, top:bottom, left:right]
    assert text.min() == BLACK
    assert text.max() == WHITE
    assert 0.1 < (text > WHITE / 2).mean() < 0.5


def test_dashes_alternate_along_the_border():
    stored, aperture, _ = marked(centre(512, 512), 1, 512, 512, Mark(border="dashed", contrast="bright"))
    above = int(np.argmax(aperture[0].any(axis=1))) - 1
    line = stored[0, above, 130:382] == WHITE
    assert 0.3 < line.mean() < 0.7
    assert np.count_nonzero(np.diff(line.astype(int))) > 8


def test_signed_values_are_drawn_as_such():
    stored = np.full((1, 256, 256), -500, dtype=np.int16)
    aperture = measured(centre(256, 256), 1, 256, 256)
    draw_mark(stored, aperture, np.zeros_like(aperture), Mark(), black=-2048, white=2047)
    assert stored.min() == -2048
    assert stored.max() == 2047


@pytest.mark.parametrize("label", ["", "AI", "   ", "\u3000" * 3, "two\nlines", "tab\there", "x" * 41])
def test_a_label_that_cannot_be_drawn_is_refused(label):
    with pytest.raises(ValueError, match="label"):
        Mark(label=label)


@pytest.mark.parametrize("label", ["ERZEUGT FÜR ÄRZTE: KÜNSTLICH", "СГЕНЕРИРОВАНО, НЕ ИЗМЕРЕНО", "GÉNÉRÉ – NON MESURÉ"])
def test_a_label_is_written_in_its_own_letters(label):
    with_boxes = "".join(character if character.isascii() else LACKING for character in label)
    pages = [np.asarray(_written(text, font("", 20), 20)) for text in (label, with_boxes)]
    assert pages[0].shape != pages[1].shape or np.abs(pages[0] - pages[1]).max() > 0.5
    stored, aperture, drawn = marked(centre(512, 512), 1, 512, 512, Mark(label=label))
    top, left, bottom, right = label_of(stored[0], aperture[0])
    assert drawn.labelled == 1
    assert (stored[0, top:bottom, left:right] > WHITE / 2).any()


def test_a_character_that_the_font_lacks_is_not_drawn_as_a_box():
    with pytest.raises(ConfigError, match=r"cannot draw '山'; the administrator names another"):
        marked(centre(512, 512), 1, 512, 512, Mark(label="山 GENERATED"))


def test_a_label_is_written_in_the_font_that_is_named(tmp_path):
    other = ImageFont.load_default(20)  # Pillow's own, which has ASCII alone
    (tmp_path / "other.ttf").write_bytes(other.font_bytes)
    named = Mark(font=str(tmp_path / "other.ttf"))
    ours, theirs = (marked(centre(512, 512), 1, 512, 512, mark)[0] for mark in (Mark(), named))
    assert (ours != theirs).any()
    with pytest.raises(ConfigError, match="cannot draw 'Ü'"):
        marked(centre(512, 512), 1, 512, 512, Mark(label="KÜNSTLICH", font=named.font))


def test_a_font_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match=r"/no/such.ttf cannot be read here"):
        marked(centre(512, 512), 1, 512, 512, Mark(font="/no/such.ttf"))


def test_what_was_measured_at_another_time_lies_within_the_border_and_is_parted_by_a_dotted_line():
    stored = np.full((1, 200, 200), GREY, dtype=np.uint16)
    aperture = measured(Box(60, 60, 120, 120), 1, 200, 200)
    elsewhen = measured(Box(120, 60, 150, 120), 1, 200, 200)

    draw_mark(stored, aperture, elsewhen, Mark(border="solid"), black=BLACK, white=WHITE)

    drawn = stored[0] != GREY
    assert not drawn[aperture[0]].any()
    assert drawn[60:120, 150].all()
    assert 0.3 < drawn[60:120, 120].mean() < 0.7
    assert not drawn[60:120, 122:149].any()
