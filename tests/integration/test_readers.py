"""Programs that are not ours read what the node makes: pydicom, SimpleITK, dcmtk. A viewer in a browser shows it."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless

from config.mark import Mark
from config.objects import Beside, ObjectProfile
from dicom_node.lossless import rewrite
from dicom_node.workflow.reconstruction import objects_of
from tests.factory import reconstruction, write, xa
from tests.nodes import LONG
from tests.ohif import Site, Viewer, ohif
from tests.peers import wait_until
from tests.viewer import viewer
from tests.web import part_10, serving

PROFILES: tuple[ObjectProfile, ...] = ("multiframe_sc", "single_frames", "like_source")
EVERYTHING = Beside(segmentation=True, presentation_state=True, report=True, uncertainty=True)
#: What `xa` takes, and in which transfer syntax a destination gets the picture, if it takes that.
SOURCES: dict[str, tuple[dict[str, Any], UID]] = {
    "12 bits": ({}, JPEGLSLossless),
    "8 bits": ({"bits_stored": 8}, JPEGLSLossless),
    "signed": ({"signed": True}, JPEG2000Lossless),
}


def results(source: Dataset, profile: ObjectProfile = "multiframe_sc") -> list[Dataset]:
    made = objects_of(source, reconstruction(source), route="chest", mark=Mark(), beside=EVERYTHING, profile=profile)
    return made.all()


@pytest.mark.parametrize(
    ("kind", "profile"),
    [*(("12 bits", profile) for profile in PROFILES), ("8 bits", PROFILES[0]), ("signed", PROFILES[0])],
)
def test_every_result_is_read_by_pydicom_simpleitk_and_dcmtk(kind, profile, tmp_path):
    how, syntax = SOURCES[kind]
    made = results(xa(frames=2, **how), profile)
    assert {each.Modality for each in made} == {"XA", "SEG", "PR", "SR"}
    for number, result in enumerate(made):
        path = write(result, tmp_path / f"{number}.dcm")
        assert dcmread(path).SOPInstanceUID == result.SOPInstanceUID
        told = subprocess.run(["dcmdump", "+P", "SOPInstanceUID", path], capture_output=True, text=True, check=True)
        assert result.SOPInstanceUID in told.stdout
        assert told.stderr == ""
        if "PixelData" in result:
            read = by_simpleitk(path)
            read = read // 255 if result.BitsAllocated == 1 else read  # it shows bits as black and white
            assert np.array_equal(read, dcmread(path).pixel_array.reshape(-1, 64, 64))
        if result.Modality == "XA":
            shown = by_dcmtk("dcm2pnm", path)
            assert shown.shape == (64, 64)
            sent = compressed(path, syntax)
            assert np.array_equal(by_simpleitk(sent), read)
            if syntax == JPEGLSLossless:  # none of its programs decodes JPEG 2000
                assert np.array_equal(by_dcmtk("dcml2pnm", sent), shown)
        if result.Modality == "SR":
            told = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=True)
            assert "Report on generated pixels" in told.stdout


def by_simpleitk(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).reshape(-1, 64, 64)


def by_dcmtk(program: str, path: Path) -> np.ndarray:
    """The first frame through the first window."""
    shown = path.with_suffix(".pgm")
    subprocess.run([program, "+Wi", "1", path, shown], check=True, capture_output=True)
    return np.asarray(Image.open(shown))


def compressed(path: Path, syntax: UID) -> Path:
    """The picture as a destination gets it."""
    sent = path.with_suffix(".sent")
    assert rewrite(path, syntax, sent)
    return sent


@pytest.mark.parametrize(("syntax", "decoders"), [(JPEGLSLossless, []), (JPEG2000Lossless, ["Gdcm"])])
def test_a_viewer_shows_source_and_result_and_the_mark(syntax, decoders, tmp_path: Path):
    with viewer(tmp_path, *decoders) as screen:
        for kind in [kind for kind, goes_as in SOURCES.values() if goes_as == syntax]:
            source = xa(frames=2, rows=256, columns=256, **kind)
            result = results(source)[0]
            sent = compressed(write(result, tmp_path / "result.dcm"), syntax)
            before, after = screen.show(part_10(source)), screen.show(sent.read_bytes())
            marked, unmarked = grey(result), grey(source, reconstruction(source).stored)
            assert likeness(before, grey(source)) > 0.98
            assert likeness(after, marked) > 0.98
            drawn = marked != unmarked
            assert likeness(after, marked, drawn) > 0.9
            assert likeness(after, unmarked, drawn) < 0.5


@pytest.mark.long
def test_a_viewer_in_the_browser_works_on_the_nodes_own_dicomweb(tmp_path: Path):
    source = xa(frames=2, rows=256, columns=256)
    made = results(source)
    site = Site()
    with serving(tmp_path, {"origins": [site.origin]}) as node, ohif(site, node.url) as screen:
        assert node.post([part_10(each) for each in (source, *made)]).status_code == 200
        screen.open(source.StudyInstanceUID)
        see(made[0], screen)
        see(source, screen)
        screen.show("Report on GENERATED")
        screen.wait_for("Generated detail that follows the faint picture behind blades")
        assert screen.errors == []


def see(picture: Dataset, screen: Viewer) -> None:
    """Have a picture shown, and wait until it is on the screen."""
    screen.show(picture.SeriesDescription)
    wait_until(lambda: likeness(screen.picture(), grey(picture)) > 0.98, what="the picture", seconds=LONG)


def grey(picture: Dataset, stored: np.ndarray | None = None) -> np.ndarray:
    """The first frame as the window of all values shows it, in 8 bits; stored: other values than the picture's."""
    stored = picture.pixel_array if stored is None else stored
    frame = stored.reshape(-1, picture.Rows, picture.Columns)[0].astype(int)
    lowest = -(2 ** (picture.BitsStored - 1)) if picture.PixelRepresentation else 0
    return ((frame - lowest) >> (picture.BitsStored - 8)).astype(np.uint8)


def likeness(shown: np.ndarray, frame: np.ndarray, where: np.ndarray | None = None) -> float:
    """The correlation of what is on the screen with a frame of 8 bits."""
    expected = np.asarray(Image.fromarray(frame).resize(shown.shape[::-1]))
    taken = np.asarray(Image.fromarray(np.ones_like(frame, bool) if where is None else where).resize(shown.shape[::-1]))
    return float(np.corrcoef(shown[taken].astype(float), expected[taken].astype(float))[0, 1])
