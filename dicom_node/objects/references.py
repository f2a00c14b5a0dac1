"""How one object names others: whole images, series of them, and the frames that something was made of."""

from collections.abc import Sequence

from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_node.sop_classes import MULTI_FRAME


def reference(image: Dataset) -> Dataset:
    """SOP Instance Reference (PS3.3 10.8): of an image, the whole of it."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def series_reference(images: Sequence[Dataset], keyword: str = "ReferencedInstanceSequence") -> Dataset:
    """A series and its instances, as modules that refer to images list them; keyword: of the list of instances."""
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    setattr(series, keyword, [reference(image) for image in images])
    return series


def source_reference(image: Dataset, frame: int | None = None) -> Dataset:
    """What pixels were made of, and lie on: an item of Source Image Sequence (C.7.6.16.2.6, C.12.4).

    frame: from 1; None: all frames. They are numbered only where the class has frames (10.3).
    """
    item = reference(image)
    if frame is not None and image.SOPClassUID in MULTI_FRAME and "NumberOfFrames" in image:
        item.ReferencedFrameNumber = frame
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item
