"""Presentation states mark the generated pixels, or hide them: as dcmtk, which is not ours, reads and shows them."""

import subprocess
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite

from config.mark import Mark
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.report import ReportDraft
from dicom_node.objects.secondary_capture import secondary_captures
from inference.aperture import apertures_from_attributes
from tests.factory import Box, measured, reconstruction, table, write, xa


def made(source, aperture=None, elsewhen=None, mark=None, profile="multiframe_sc"):
    """The pictures and the states beside them, as a peer reads them, and the reconstruction they are of."""
    result = reconstruction(source, aperture)
    if elsewhen is not None:
        result = replace(result, elsewhen=elsewhen)
    mark = mark or Mark()
    pictures = secondary_captures(source, result, route="chest", mark=mark, profile=profile)
    origin = Origin.of(result.provenance, route="chest", mark=mark)
    states = presentation_states(source, pictures, result, origin=origin)
    return pictures, [read(state) for state in states], result


def read(dataset):
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return dcmread(BytesIO(file.getvalue()))


def shown(picture, state, folder, frame=1):
    """A frame of a picture through a presentation state, as dcmtk shows it: (h, w) of 0 to 255."""
    write(picture, folder / "picture.dcm")
    write(state, folder / "state.dcm")
    paths = [folder / name for name in ("state.dcm", "picture.dcm", "shown.pgm")]
    subprocess.run(["dcmp2pgm", "--frame", str(frame), "-p", *paths], check=True, capture_output=True)
    return np.array(Image.open(folder / "shown.pgm"))


def left_open(state):
    """(h, w) bool, what a shutter leaves open (PS3.3 C.7.6.11, C.7.6.15)."""
    (area,) = state.DisplayedAreaSelectionSequence
    columns, rows = area.DisplayedAreaBottomRightHandCorner
    if state.ShutterShape == "RECTANGULAR":
        return apertures_from_attributes(state, (1, rows, columns))[0]
    assert state.ShutterShape == "BITMAP"
    return state.overlay_array(state.ShutterOverlayGroup) == 0


def circle(frames, rows, columns):
    down, across = np.ogrid[:rows, :columns]
    return np.broadcast_to((down - 31) ** 2 + (across - 40) ** 2 < 22**2, (frames, rows, columns)).copy()


CINES = {
    "a rectangle": ({}, None),
    "a circle": ({"rows": 67, "columns": 81}, circle(4, 67, 81)),
    "an aperture that moves": ({}, measured([Box(8 + at, 3 + at, 40 + at, 50) for at in range(4)], 4, 64, 64)),
    "one frame": ({"frames": 1}, None),
    "no number of frames": ({"frames": 0}, None),
    "single frames": ({"frames": 3, "signed": True}, None),
    "MONOCHROME1": ({"photometric": "MONOCHROME1"}, None),
    "MONOCHROME1 single frames": ({"photometric": "MONOCHROME1", "bits_stored": 8}, None),
    "rescaled": ({"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"}, None),
    "no window": ({"missing": ["WindowCenter", "WindowWidth"]}, None),
    "calibrated": ({"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"}, None),
}


@pytest.mark.parametrize(("cine", "aperture"), CINES.values(), ids=CINES)
def test_the_measured_view_leaves_open_what_was_measured_in_every_frame(cine, aperture):
    _, (_, only), result = made(xa(**cine), aperture)
    assert np.array_equal(left_open(only), result.aperture.all(axis=0))


def test_dcmtk_shows_what_a_bitmap_shutter_leaves_open_and_nothing_else(tmp_path):
    (picture,), (marked, only), result = made(xa(frames=2, rows=67, columns=81), circle(2, 67, 81))
    everything, measured_only = (shown(picture, state, tmp_path, frame=2) for state in (marked, only))
    inside = result.aperture[1]
    assert (measured_only[~inside] == 0).all()
    assert np.array_equal(measured_only[inside], everything[inside])
    assert np.ptp(everything[inside]) > 60


NO_WINDOW = ["WindowCenter", "WindowWidth"]


@pytest.mark.parametrize(
    ("cine", "option"),
    [
        ({}, "--use-window"),
        ({"photometric": "MONOCHROME1"}, "--use-window"),
        ({"frames": 3, "signed": True}, "--use-window"),
        ({"WindowCenter": [900, 2048], "WindowWidth": [1500, 4096]}, "--use-window"),
        ({"VOILUTSequence": [table(), table(LUTExplanation="another")], "missing": NO_WINDOW}, "--use-voi-lut"),
        ({"VOILUTSequence": [table()]}, "--use-window"),
        ({"PixelIntensityRelationship": "LOG", "RescaleSlope": "0.5", "RescaleIntercept": "1"}, "--use-window"),
        ({"PixelIntensityRelationship": "LOG", "ModalityLUTSequence": [table(ModalityLUTType="US")]}, "--use-window"),
    ],
)
@pytest.mark.parametrize("profile", ["multiframe_sc", "like_source"])
def test_the_grey_of_the_picture_is_kept(cine, option, profile, tmp_path):
    (picture, *_), (marked, _), _ = made(xa(**cine), profile=profile)
    through = shown(picture, marked, tmp_path)
    subprocess.run(["dcm2pnm", option, "1", tmp_path / "picture.dcm", tmp_path / "plain.pgm"], check=True)
    assert np.abs(np.array(Image.open(tmp_path / "plain.pgm")).astype(int) - through).max() <= 1


def test_the_border_of_what_was_measured_is_drawn_and_the_label_beside_it():
    box = Box(60, 70, 200, 180)
    _, (marked, _), _ = made(xa(rows=256, columns=256, frames=1), measured(box, 1, 256, 256))
    (annotation,) = marked.GraphicAnnotationSequence
    (line,) = annotation.GraphicObjectSequence
    assert line.GraphicData == [60, 70, 200, 70, 200, 180, 60, 180, 60, 70]
    (text,) = annotation.TextObjectSequence
    assert text.UnformattedTextValue == "GENERATED - NOT MEASURED"
    left, top = text.BoundingBoxTopLeftHandCorner
    right, bottom = text.BoundingBoxBottomRightHandCorner
    assert right <= 60 or left >= 200 or bottom <= 70 or top >= 180
    assert "ReferencedFrameNumber" not in annotation.ReferencedImageSequence[0]


@pytest.mark.parametrize(
    ("label", "charset", "name", "written"),
    [
        ("KÜNSTLICH ERZEUGT", "ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("СГЕНЕРИРОВАНО", "ISO_IR 144", "Иванов^Иван", "ISO_IR 144"),
        ("СГЕНЕРИРОВАНО", "ISO_IR 100", "Müller^Jörg", "ISO_IR 192"),
        ("СГЕНЕРИРОВАНО", None, "Invented^Patient", "ISO_IR 192"),
        ("ERZEUGT – NICHT GEMESSEN", "ISO_IR 100", "Müller^Jörg", "ISO_IR 192"),
        ("生成画像", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("СГЕНЕРИРОВАНО Ü", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
        ("GENERATED", "ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
    ],
)
def test_state_and_report_tell_the_label_and_the_name_in_a_character_set_that_has_both(label, charset, name, written):
    source = xa(patient_name=name, charset=charset)
    mark = Mark(label=label, burned_in=label.isascii() or label[0] in "KСE")
    pictures, (marked, _), result = made(source, mark=mark)
    (text,) = marked.GraphicAnnotationSequence[0].TextObjectSequence
    assert text.UnformattedTextValue == label
    assert marked.SpecificCharacterSet == written
    assert marked.PatientName == name
    origin = Origin.of(result.provenance, route="chest", mark=mark)
    report = read(ReportDraft.of(source, pictures, [marked], result, origin=origin).finished())
    notes = [str(element.value) for element in report.iterall() if element.keyword == "TextValue"]
    assert any(label in note for note in notes) == mark.burned_in
    assert report.PatientName == name
    assert pictures[0].get("SpecificCharacterSet") == (charset or None)


def test_the_label_does_not_lie_over_the_one_that_is_burned_in():
    boxes = []
    for burned_in in (True, False):
        _, (marked, _), _ = made(xa(rows=256, columns=256, frames=1), mark=Mark(burned_in=burned_in))
        (text,) = marked.GraphicAnnotationSequence[0].TextObjectSequence
        boxes.append((text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner))
    (corner, end), (burned_corner, burned_end) = boxes  # without a burned-in label it stands where that would
    assert any(end[axis] <= burned_corner[axis] or corner[axis] >= burned_end[axis] for axis in (0, 1))


def test_each_still_view_has_a_border_of_its_own():
    aperture = measured([Box(8, 8, 40, 50)] * 2 + [Box(20, 8, 52, 50)] * 2, 4, 64, 64)
    _, (marked, only), _ = made(xa(), aperture)
    told = [
        (
            annotation.ReferencedImageSequence[0].ReferencedFrameNumber,
            annotation.GraphicObjectSequence[0].GraphicData[0],
        )
        for annotation in marked.GraphicAnnotationSequence
    ]
    assert told == [([1, 2], 8), ([3, 4], 20)]
    assert (only.ShutterLeftVerticalEdge, only.ShutterRightVerticalEdge) == (21, 40)


def test_what_was_measured_at_another_time_is_parted_from_what_was_measured_in_the_frame():
    elsewhen = measured(Box(48, 16, 58, 48), 4, 64, 64) & ~reconstruction(xa()).aperture
    _, (marked, only), result = made(xa(), elsewhen=elsewhen)
    (annotation,) = marked.GraphicAnnotationSequence
    assert len(annotation.GraphicObjectSequence) == 2
    assert np.array_equal(left_open(only), result.aperture[0])


def test_there_is_no_measured_view_where_nothing_was_measured_in_every_frame():
    aperture = measured([Box(0, 8, 30, 50), Box(34, 8, 64, 50)], 2, 64, 64)
    _, states, _ = made(xa(frames=2), aperture)
    assert [state.ContentLabel for state in states] == ["GENERATED_MARKED"]


def test_without_room_for_the_label_it_stands_at_the_corner():
    _, (marked, _), _ = made(xa(frames=1), measured(Box(4, 4, 60, 60), 1, 64, 64))
    (text,) = marked.GraphicAnnotationSequence[0].TextObjectSequence
    assert text.AnchorPoint == [0, 0]


def test_single_pictures_are_all_referred_to():
    pictures, states, _ = made(xa(frames=3, signed=True))
    assert len(pictures) == 3
    for state in states:
        (series,) = state.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == pictures[0].SeriesInstanceUID
        told = [image.ReferencedSOPInstanceUID for image in series.ReferencedImageSequence]
        assert told == [picture.SOPInstanceUID for picture in pictures]


def test_both_states_lie_in_one_series_beside_the_pictures_and_are_the_same_each_time():
    source = xa()
    pictures, states, _ = made(source)
    _, again, _ = made(source)
    assert len({state.SeriesInstanceUID for state in states} | {pictures[0].SeriesInstanceUID}) == 2
    assert len({state.SOPInstanceUID for state in states}) == 2
    assert [state.SOPInstanceUID for state in states] == [state.SOPInstanceUID for state in again]
    assert states[0].PatientName == source.PatientName


@pytest.mark.parametrize(("cine", "aperture"), CINES.values(), ids=CINES)
def test_dcmtk_finds_no_fault(cine, aperture, tmp_path):
    _, states, _ = made(xa(**cine), aperture)
    for state in states:
        told = subprocess.run(
            ["dcmpschk", write(state, tmp_path / "state.dcm")], capture_output=True, text=True, check=True
        )
        assert [line for line in told.stderr.splitlines() if not line.startswith("W: Test")] == []
