"""Programs that are not ours read what the node makes: pydicom, SimpleITK, dcmtk. A viewer in a browser shows it."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydicom import Dataset, dcmread

from config.mark import Mark
from config.objects import Beside, ObjectProfile
from dicom_node.workflow.reconstruction import objects_of
from tests.factory import reconstruction, write, xa
from tests.nodes import LONG
from tests.ohif import Site, Viewer, ohif
from tests.peers import wait_until
from tests.viewer import viewer
from tests.web import part_10, serving

PROFILES: tuple[ObjectProfile, ...] = ("multiframe_sc", "single_frames", "like_source")
EVERYTHING = Beside(segmentation=True, presentation_state=True, report=True, uncertainty=True)


def results(source: Dataset, profile: ObjectProfile = "multiframe_sc") -> list[Dataset]:
    made = objects_of(source, reconstruction(source), route="chest", mark=Mark(), beside=EVERYTHING, profile=profile)
    return made.all()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_result_is_read_by_pydicom_simpleitk_and_dcmtk(profile, tmp_path):
    source = xa(frames=2)
    made = results(source, profile)
    assert {each.Modality for each in made} == {"XA", "SEG", "PR", "SR"}
    for number, result in enumerate(made):
        path = write(result, tmp_path / f"{number}.dcm")
        assert dcmread(path).SOPInstanceUID == result.SOPInstanceUID
        told = subprocess.run(["dcmdump", "+P", "SOPInstanceUID", path], capture_output=True, text=True, check=True)
        assert result.SOPInstanceUID in told.stdout
        assert told.stderr == ""
        if "PixelData" in result:
            read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
            read = read // 255 if result.BitsAllocated == 1 else read  # it shows bits as black and white
            assert np.array_equal(read, dcmread(path).pixel_array.reshape(-1, 64, 64))
        if result.Modality == "XA":
            subprocess.run(["dcm2pnm", "+Wi", "1", path, tmp_path / "shown.pgm"], check=True, capture_output=True)
            assert Image.open(tmp_path / "shown.pgm").size == (64, 64)
        if result.Modality == "SR":
            told = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=True)
            assert "Report on generated pixels" in told.stdout


def test_a_viewer_shows_source_and_result_and_the_mark(tmp_path: Path):
    source = xa(frames=2, rows=256, columns=256)
    result = results(source)[0]
    with viewer(tmp_path) as screen:
        before, after = screen.show(part_10(source)), screen.show(part_10(result))
    frame, unmarked = result.pixel_array[0], reconstruction(source).stored[0]
    assert likeness(before, source.pixel_array[0]) > 0.98
    assert likeness(after, frame) > 0.98
    drawn = frame != unmarked
    assert likeness(after, frame, drawn) > 0.9
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
    wait_until(lambda: likeness(screen.picture(), picture.pixel_array[0]) > 0.98, what="the picture", seconds=LONG)


def likeness(shown: np.ndarray, frame: np.ndarray, where: np.ndarray | None = None) -> float:
    """The correlation of what is on the screen with a frame of 12 bits, whose window is all of them."""
    expected = np.asarray(Image.fromarray((frame >> 4).astype(np.uint8)).resize(shown.shape[::-1]))
    taken = np.asarray(Image.fromarray(np.ones_like(frame, bool) if where is None else where).resize(shown.shape[::-1]))
    return float(np.corrcoef(shown[taken].astype(float), expected[taken].astype(float))[0, 1])
