"""A whole hospital for the tests: a node, Orthanc as its PACS, and dcmtk's storescu as the modality.

with hospital(tmp_path) as here:
    assert here.push(cine).accepted
    assert here.goes_through()
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.factory import write, xa
from tests.nodes import LONG, NodeProcess
from tests.peers import Orthanc, Told, orthanc, storescu, wait_until

PACS = "ORTHANC"
#: Objects that a small cine gives: a picture, its Segmentation, two presentation states and a report.
RESULTS = 5


class Hospital:
    """A node that sends its results to a PACS, and what a modality and a radiologist do there."""

    def __init__(self, folder: Path, node: NodeProcess, pacs: Orthanc) -> None:
        self.folder = folder
        self.node = node
        self.pacs = pacs
        self._drawn = 0

    def cine(self, frames: int = 2, **attributes: Any) -> Path:
        """A small cine that nobody has seen yet."""
        self._drawn += 1
        return write(xa(frames=frames, seed=self._drawn, **attributes), self.folder / f"cine{self._drawn}.dcm")

    def push(self, *what: Path | str, calling: str = "CARM1") -> Told:
        """Send files to the node as a modality does."""
        return storescu(self.node.port, *what, calling=calling)

    def results(self, cine: Path) -> list[Dataset]:
        """The pictures that the PACS holds of the study of a cine."""
        return [held for held in self._of_study(cine) if held.Modality not in ("SEG", "PR", "SR")]

    def segmentations(self, cine: Path) -> list[Dataset]:
        """The Segmentation objects that the PACS holds of the study of a cine."""
        return self.beside(cine, "SEG")

    def beside(self, cine: Path, modality: str) -> list[Dataset]:
        """What the PACS holds of that modality in the study of a cine."""
        return [held for held in self._of_study(cine) if held.Modality == modality]

    def _of_study(self, cine: Path) -> list[Dataset]:
        return self.held(str(dcmread(cine, specific_tags=["StudyInstanceUID"]).StudyInstanceUID))

    def held(self, study_instance_uid: str) -> list[Dataset]:
        """What the PACS holds of a study."""
        return [
            dcmread(BytesIO(self.pacs.read(f"/instances/{known}/file")))
            for known in self.pacs.ask(
                "/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}}
            )
        ]

    def result(self, cine: Path) -> Dataset:
        """Wait until the PACS holds the result of a cine, which is one picture; that picture."""
        (result,) = wait_until(lambda: self.results(cine), what="the result in the PACS", seconds=LONG)
        return result

    def goes_through(self) -> bool:
        """Whether the next object is taken and its result reaches the PACS, as if nothing had happened."""
        cine = self.cine()
        return self.push(cine).accepted and shows(self.result(cine), cine)


def shows(result: Dataset, cine: Path) -> bool:
    """Whether a result is the full field of a cine: from it, marked, with the aperture's pixels untouched."""
    source = dcmread(cine)
    (reference,) = result.SourceImageSequence
    inside = aperture_of(source)
    before, after = source.pixel_array, result.pixel_array
    return bool(
        reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        and result.SyntheticData == "YES"
        and (after[:, inside] == before[:, inside]).all()
        and (after[:, ~inside] != before[:, ~inside]).any()
    )


def aperture_of(source: Dataset) -> np.ndarray:
    """The pixels inside a rectangular collimator by its attributes (PS3.3 C.8.7.3), which count from 1."""
    mask = np.zeros((source.Rows, source.Columns), dtype=bool)
    mask[
        source.CollimatorUpperHorizontalEdge - 1 : source.CollimatorLowerHorizontalEdge,
        source.CollimatorLeftVerticalEdge - 1 : source.CollimatorRightVerticalEdge,
    ] = True
    return mask


@contextmanager
def hospital(folder: Path, **node: Any) -> Iterator[Hospital]:
    """A hospital at work; node: how its node is set up, see `NodeProcess`."""
    with orthanc(folder / "pacs", ae_title=PACS) as pacs:
        process = NodeProcess(folder / "node", {"pacs": pacs.port}, titles={"pacs": PACS}, **node)
        with process.running():
            yield Hospital(folder, process, pacs)
