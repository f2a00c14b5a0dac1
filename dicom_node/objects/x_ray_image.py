"""Results of the class of their source: X-Ray Angiographic and X-Ray Radiofluoroscopic Image (PS3.3 A.14, A.16)."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage

from dicom_node.objects.grey_scale import GreyScale, put_source_grey_scale
from dicom_node.objects.picture import Picture, picture_number
from dicom_node.objects.provenance import Statement
from dicom_node.objects.source_header import X_RAY, copy_attributes, read_value
from dicom_node.objects.timing import carry_timing, is_timed

_PLANES = ("SINGLE PLANE", "BIPLANE A", "BIPLANE B")
#: Of type 2, or 2C where nothing else tells the same: empty where the source does not say (C.8.7.2, C.8.7.5).
_MAY_BE_EMPTY = {
    XRayAngiographicImageStorage: ("KVP", "PositionerPrimaryAngle", "PositionerSecondaryAngle", "PositionerMotion"),
    XRayRadiofluoroscopicImageStorage: ("KVP",),
}


class XRayImage(Picture):
    """An image of the source's own class, which can hold what `can_be_like` says."""

    def __init__(
        self, source: Dataset, pixels: NDArray[np.integer], *, frames: int, grey: GreyScale, statement: Statement
    ) -> None:
        """`pixels`: (n, h, w) little endian, in one or two bytes a pixel as BitsStored asks."""
        if not can_be_like(source, grey):
            raise ValueError("The class of the source cannot hold the result.")
        super().__init__(
            source,
            pixels,
            sop_class_uid=UID(source.SOPClassUID),
            part=0,
            instance_number=picture_number(source),
            frame=None,
            grey=grey,
            statement=statement,
        )
        copy_attributes(source, self, tuple(keyword for keywords in X_RAY.values() for keyword in keywords))
        self.remove_private_tags()
        if self.ImageType[2] == "SINGLE PLANE" and "ReferencedImageSequence" in self:
            del self.ReferencedImageSequence
        if frames > 1:
            carry_timing(source, self, frames)
        put_source_grey_scale(source, grey, self)
        self._complete()

    def _complete(self) -> None:
        required = [*_MAY_BE_EMPTY[self.SOPClassUID]]
        if "Exposure" not in self:
            required += ["XRayTubeCurrent", "ExposureTime"]
        if any(keyword in self for keyword in X_RAY["C.8.7.4"]):
            required += ["TableMotion"]
        for keyword in required:
            if keyword not in self:
                setattr(self, keyword, None)


def can_be_like(source: Dataset, grey: GreyScale) -> bool:
    """Whether the class of the source can hold a result: what it enumerates and what it requires, nothing invented.

    These classes know unsigned MONOCHROME2 of 8, 10, 12 or 16 bits, a modality LUT where the intensities are
    logarithmic, and frames by time (C.8.7.1). A Radiation Setting that the source does not tell is not to be made up.
    """
    flavour = read_value(source, "ImageType")
    plane = flavour[2] if flavour is not None and not isinstance(flavour, str) and len(flavour) > 2 else None
    intensities = read_value(source, "PixelIntensityRelationship")
    has_modality_lut = any(read_value(source, keyword) for keyword in ("RescaleSlope", "ModalityLUTSequence"))
    frames = int(source.get("NumberOfFrames") or 1)
    return (
        source.SOPClassUID in _MAY_BE_EMPTY
        and not grey.signed
        and not grey.inverse
        and grey.bits_stored in (8, 10, 12, 16)
        and plane in _PLANES
        and (plane == "SINGLE PLANE" or read_value(source, "ReferencedImageSequence") is not None)
        and read_value(source, "RadiationSetting") in ("SC", "GR")
        and (intensities == "DISP" or (intensities in ("LIN", "LOG") and has_modality_lut == (intensities == "LOG")))
        and (frames == 1 or is_timed(source, frames))
    )
