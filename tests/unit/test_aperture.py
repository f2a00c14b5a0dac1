"""Which pixels were measured, by the attributes of shutter and collimator; where they say nothing, by the pixels."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedXAImageStorage

from config.errors import NoAperture
from inference.aperture import find_apertures
from inference.pixels import read_cine
from tests.factory import Box, malformed, measured, xa

IN_PIXELS = Box(20, 24, 44, 40)


def in_pixels(frames):
    """Stands where the network is asked, and always answers the same."""
    return measured(IN_PIXELS, *frames.shape)


def never(_):
    pytest.fail("the pixels were looked at")


def apertures(source, find=never):
    found, where = find_apertures(source, read_cine(source), find)
    assert found.shape == (int(source.get("NumberOfFrames") or 1), source.Rows, source.Columns)
    assert where == ("attributes" if find is never else "pixels")
    return found


def bare(**attributes):
    """A frame of 64 by 64 pixels whose attributes say nothing but what is given."""
    return xa(frames=1, attributes_say="nothing", **attributes)


def edges(kind, box):
    return {
        f"{kind}Shape": "RECTANGULAR",
        f"{kind}LeftVerticalEdge": box.left + 1,
        f"{kind}RightVerticalEdge": box.right,
        f"{kind}UpperHorizontalEdge": box.top + 1,
        f"{kind}LowerHorizontalEdge": box.bottom,
    }


@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
def test_a_rectangle_is_counted_from_1_and_its_edges_are_measured(kind):
    box = Box(10, 20, 33, 41)

    assert np.array_equal(apertures(bare(**edges(kind, box))), measured(box, 1, 64, 64))


def test_a_circle_is_given_by_row_column_and_radius():
    [mask] = apertures(
        bare(CollimatorShape="CIRCULAR", CenterOfCircularCollimator=[20, 40], RadiusOfCircularCollimator=10)
    )

    assert mask[19, 39] and mask[19, 29] and mask[29, 39]
    assert not mask[19, 28] and not mask[30, 39] and not mask[27, 46]
    assert mask.sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_a_polygon_is_given_by_pairs_of_row_and_column():
    triangle = [1, 1, 1, 61, 31, 1]
    [mask] = apertures(bare(CollimatorShape="POLYGONAL", VerticesOfThePolygonalCollimator=triangle))

    assert mask[0, 0] and mask[0, 60] and mask[30, 0] and mask[10, 20]
    assert not mask[31, 0] and not mask[0, 61] and not mask[20, 40]
    assert mask.sum() == pytest.approx(60 * 30 / 2, rel=0.1)


def test_what_several_shapes_leave_open_together_is_measured():
    source = bare(
        **edges("Shutter", Box(0, 0, 40, 64)),
        **edges("Collimator", Box(20, 10, 64, 50)),
    )
    source.CollimatorShape = ["RECTANGULAR", "CIRCULAR"]
    source.CenterOfCircularCollimator, source.RadiusOfCircularCollimator = [30, 30], 200

    assert np.array_equal(apertures(source), measured(Box(20, 10, 40, 50), 1, 64, 64))


def enhanced(boxes, shared=None):
    """An enhanced image that tells each frame's collimator in functional groups (C.8.19.6.7)."""

    def group(box):
        shape, item = Dataset(), Dataset()
        for keyword, value in edges("Collimator", box).items():
            setattr(shape, keyword, value)
        item.CollimatorShapeSequence = [shape]
        return item

    source = xa(frames=len(boxes), attributes_say="nothing", sop_class=EnhancedXAImageStorage)
    source.PerFrameFunctionalGroupsSequence = [group(box) for box in boxes]
    if shared is not None:
        source.SharedFunctionalGroupsSequence = [group(shared)]
    return source


def test_an_enhanced_image_tells_each_frames_collimator():
    boxes = [Box(8 + at, 8, 40 + at, 50) for at in range(3)]

    assert np.array_equal(apertures(enhanced(boxes)), measured(boxes, 3, 64, 64))


def test_what_frames_share_holds_for_each_of_them():
    boxes = [Box(8 + at, 8, 40 + at, 50) for at in range(3)]
    cut = [box._replace(bottom=30) for box in boxes]

    assert np.array_equal(apertures(enhanced(boxes, Box(0, 0, 64, 30))), measured(cut, 3, 64, 64))


def test_a_frame_may_be_open_while_others_are_not():
    boxes = [Box(8, 8, 40, 50), Box(0, 0, 64, 64)]

    assert np.array_equal(apertures(enhanced(boxes)), measured(boxes, 2, 64, 64))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        edges("Collimator", Box(0, 0, 64, 64)),
        edges("Shutter", Box(0, 0, 64, 63)),
        {"CollimatorShape": "HEXAGONAL"},
        {"CollimatorShape": "RECTANGULAR"},
        {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [20, 40]},
        {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [1, 1, 9, 9]},
        {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [1, 1, 1, 40, 40, 40, 7]},
        {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [1, 1, 1, 2**31 - 1, 40, 40]},
    ],
)
def test_where_the_attributes_say_nothing_of_blades_the_pixels_are_looked_at(attributes):
    assert np.array_equal(apertures(bare(**attributes), in_pixels), measured(IN_PIXELS, 1, 64, 64))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("CollimatorLeftVerticalEdge", "IS", "abc"),
        ("CollimatorLeftVerticalEdge", "IS", "1\\2"),
        ("CollimatorLeftVerticalEdge", "IS", ""),
        ("CollimatorShape", "CS", ""),
        ("CollimatorShape", "CS", b"\xff"),
        ("CollimatorShape", "IS", "7"),
    ],
)
def test_a_shape_that_cannot_be_read_hides_nothing(keyword, vr, value):
    source = malformed(bare(**edges("Collimator", Box(8, 8, 40, 40))), keyword, vr, value)

    assert np.array_equal(apertures(source, in_pixels), measured(IN_PIXELS, 1, 64, 64))


@pytest.mark.parametrize("keyword", ["SharedFunctionalGroupsSequence", "FrameDisplayShutterSequence"])
@pytest.mark.parametrize(("vr", "value"), [("SQ", "xx"), ("UN", "xx"), ("LO", "text")])
def test_a_sequence_that_is_none_hides_nothing(keyword, vr, value):
    box = Box(8, 8, 40, 40)
    source = malformed(bare(**edges("Collimator", box)), keyword, vr, value)

    assert np.array_equal(apertures(source), measured(box, 1, 64, 64))


def test_a_polygon_far_beyond_the_picture_is_cut_to_it():
    vertices = [-60_000, -60_000, -60_000, 60_000, 32, 32]
    source = bare(CollimatorShape="POLYGONAL", VerticesOfThePolygonalCollimator=vertices)

    [mask] = apertures(source)

    assert mask[0, 31] and not mask[40, 31]


@pytest.mark.parametrize("box", [Box(3, 3, 4, 4), Box(40, 8, 20, 40), Box(100, 100, 200, 200)])
def test_an_aperture_that_shows_next_to_nothing_is_declined(box):
    with pytest.raises(
        NoAperture, match=r"^The aperture leaves 0\.0% of a frame open; a reconstruction needs 0\.5%\.$"
    ):
        apertures(bare(**edges("Collimator", box)))


def test_pixels_that_are_nearly_all_open_leave_nothing_to_do():
    with pytest.raises(NoAperture, match=r"^The aperture leaves 98% of every frame open: nothing is to reconstruct\.$"):
        apertures(bare(), lambda frames: measured(Box(0, 0, 64, 63), *frames.shape))


def test_an_aperture_that_stands_still_is_one_for_all_frames_and_one_that_moves_is_not():
    source = xa(frames=3, attributes_say="nothing")

    def trembling(frames):
        return measured([Box(20 + at, 20, 50, 50) for at in (0, 1, 0)], *frames.shape)

    def moving(frames):
        return measured([Box(20 + at, 20, 50, 50) for at in (0, 9, 18)], *frames.shape)

    assert np.array_equal(apertures(source, trembling), measured(Box(20, 20, 50, 50), 3, 64, 64))
    assert [mask.sum() for mask in apertures(source, moving)] == [30 * 30, 21 * 30, 12 * 30]


STANDING = Box(20, 20, 50, 50)
BLACK = Box(0, 0, 0, 0)


def seen(*boxes):
    """The apertures of a cine in whose frames these ones are found; a chunk is told what is its own."""
    told = iter(boxes)
    source = xa(frames=len(boxes), attributes_say="nothing")
    return apertures(source, lambda frames: measured([next(told) for _ in frames], *frames.shape))


def moved(*shifts):
    return [STANDING._replace(left=STANDING.left + shift, right=STANDING.right + shift) for shift in shifts]


def test_a_frame_that_shows_no_aperture_has_that_of_the_others():
    boxes = [STANDING] * 11
    boxes[0] = boxes[4] = boxes[9] = BLACK

    assert np.array_equal(seen(*boxes), measured(STANDING, 11, 64, 64))


def test_where_blades_move_a_frame_that_shows_no_aperture_has_that_of_the_nearest_one():
    boxes = moved(-12, -8, -4, 0, 4, 8)
    expected = measured([boxes[1], *boxes[1:3], boxes[2], *boxes[4:]], 6, 64, 64)

    assert np.array_equal(seen(BLACK, *boxes[1:3], BLACK, *boxes[4:]), expected)


def test_a_frame_that_contradicts_both_its_neighbours_has_their_aperture():
    assert np.array_equal(seen(*moved(0, 0, 9, 0, 0)), measured(STANDING, 5, 64, 64))


def test_a_frame_that_contradicts_its_neighbours_while_blades_move_has_the_nearest_ones_aperture():
    boxes = moved(-12, -8, -8, 0, 4)
    boxes.insert(2, Box(0, 0, 64, 64))

    assert np.array_equal(seen(*boxes), measured([*boxes[:2], boxes[1], *boxes[3:]], 6, 64, 64))


def test_blades_that_open_leave_the_frames_open():
    boxes = [*moved(0, 0), Box(8, 8, 58, 58), Box(0, 0, 64, 64), Box(0, 0, 64, 64)]

    assert np.array_equal(seen(*boxes), measured(boxes, 5, 64, 64))


def test_a_small_aperture_that_moves_within_little_of_the_picture_is_not_taken_for_one_that_stands():
    boxes = [Box(20 + at, 20, 26 + at, 26) for at in (0, 2, 4, 6)]

    assert np.array_equal(seen(*boxes), measured(boxes, 4, 64, 64))


def test_a_cine_of_which_most_frames_show_no_aperture_is_declined():
    assert np.array_equal(seen(STANDING, BLACK), measured(STANDING, 2, 64, 64))
    with pytest.raises(NoAperture, match=r"^An aperture was found in the pixels of only 1 of 3 frames\.$"):
        seen(STANDING, BLACK, BLACK)
    with pytest.raises(NoAperture, match=r"^No aperture was found in the pixels\.$"):
        seen(BLACK, BLACK)


def test_frames_looked_at_together_may_all_show_none():
    source = xa(frames=20, attributes_say="nothing")
    chunks = []

    def unclear_at_first(frames):
        chunks.append(len(frames))
        if len(chunks) == 1:
            raise NoAperture("These show none.")
        return measured(STANDING, *frames.shape)

    assert np.array_equal(apertures(source, unclear_at_first), measured(STANDING, 20, 64, 64))
    assert sum(chunks) == 20
