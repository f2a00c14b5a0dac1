"""What every picture of a result holds, of whichever class it is (PS3.3 C.7.2.1, C.7.3.1, C.7.6.1, C.7.6.3, C.12.1)."""

from collections.abc import Iterable

import numpy as np
from highdicom.base import SOPClass
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects.grey_scale import GreyScale
from dicom_node.objects.identity import result_instance_uid, result_series_uid
from dicom_node.objects.provenance import Statement, state_derivation
from dicom_node.objects.source_header import read_value, take_over
from inference.on_disk import as_file


class Picture(SOPClass):  # type: ignore[misc]  # highdicom is not followed
    """What the classes of pictures share: an instance of the result series, with the source's header and the marks.

    The value of its pixel data is a file to read them from, for they may be larger than the memory.
    """

    def __init__(
        self,
        source: Dataset,
        pixels: NDArray[np.integer],
        *,
        sop_class_uid: UID,
        part: int,
        instance_number: int,
        frame: int | None,
        grey: GreyScale,
        statement: Statement,
    ) -> None:
        created = statement.created
        super().__init__(
            study_instance_uid=source.StudyInstanceUID,
            series_instance_uid=result_series_uid(source.SeriesInstanceUID, statement.origin),
            series_number=_series_number(source),
            sop_instance_uid=result_instance_uid(source.SOPInstanceUID, statement.origin, part),
            sop_class_uid=sop_class_uid,
            instance_number=instance_number,
            modality=str(read_value(source, "Modality") or "OT"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_date=created.date(),
            content_time=created.time(),
        )
        self.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        self.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        self.InstanceCreationDate = DA(created.date())
        self.InstanceCreationTime = TM(created.time())
        take_over(source, self, frame)
        self.SeriesDescription = _series_description(source)
        state_derivation(source, self, statement, frame)
        # Whether the pixels identify the patient (C.7.6.1): the mark does not, so the source's answer stands.
        self.BurnedInAnnotation = "YES" if read_value(source, "BurnedInAnnotation") == "YES" else "NO"
        self._put_pixels(source, pixels, grey)

    def _put_pixels(self, source: Dataset, pixels: NDArray[np.integer], grey: GreyScale) -> None:
        """Image Pixel (C.7.6.3)."""
        self.SamplesPerPixel = 1
        self.Rows = source.Rows
        self.Columns = source.Columns
        self.BitsAllocated = 8 * bytes_per_pixel(grey)
        self.BitsStored = grey.bits_stored
        self.HighBit = grey.bits_stored - 1
        self.PixelRepresentation = int(grey.signed)
        self.PixelData = as_file(pixels)
        self["PixelData"].VR = "OB" if self.BitsAllocated == 8 else "OW"


def bytes_per_pixel(grey: GreyScale) -> int:
    return 1 if grey.bits_stored <= 8 else 2


def _series_number(source: Dataset) -> int:
    """Beside the source's series, as derived series are commonly numbered: 2 gives 201."""
    number = _positive(read_value(source, "SeriesNumber"))
    return number * 100 + 1 if number < 10_000_000 else number


def picture_number(source: Dataset) -> int:
    return _positive(read_value(source, "InstanceNumber"))


def frame_number(instance_number: int, frame: int) -> int:
    """3 gives 30001 to the first frame, as long as such numbers fit into an IS (PS3.5 6.2)."""
    return (instance_number * 10_000 if instance_number < 200_000 else 0) + frame + 1


def _positive(value: object) -> int:
    return max(1, int(value)) if isinstance(value, int) else 1


def _series_description(source: Dataset) -> str:
    """64 characters (LO) that say what the series is before they say of what."""
    described: Iterable[str] = (
        "Full field, partly GENERATED",
        str(read_value(source, "SeriesDescription") or ""),
    )
    return ": ".join(part for part in described if part)[:64].strip()
