"""How sure the model is of each generated pixel, for machines: a FRACTIONAL Segmentation beside the picture."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from dicom_node.objects.companion import Companion
from dicom_node.objects.identity import Origin
from dicom_node.objects.segment_frames import describe_image, describe_segment, put_frames
from inference.on_disk import array_on_disk, as_file, in_turn
from inference.reconstruction import Reconstruction

#: PS3.16 CID 225: how far off a value may be, to both sides.
_RANGE = Code("371884006", "SCT", "+/-, range of measurement uncertainty")
_WHOLE = 255


class Uncertainty(Companion):
    """Segmentation Image (PS3.3 A.51), FRACTIONAL: of each pixel the share of the range from black to white that the
    90 % interval around its best estimate takes up, 0 where it was measured.

    255 is the whole range. There is a frame for each of the picture, which refers to it (C.7.6.16.2.6).
    """

    def __init__(
        self, source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, origin: Origin
    ) -> None:
        """source: the image that was reconstructed; pictures: what was made of it, of this origin."""
        super().__init__(
            source,
            pictures,
            reconstruction.provenance,
            kind="uncertainty",
            sop_class_uid=SegmentationStorage,
            modality="SEG",
            title="Uncertainty of GENERATED pixels",
            origin=origin,
        )
        describe_image(source, pictures, self)
        # Segmentation Image (C.8.20.2).
        self.SegmentationType = "FRACTIONAL"
        self.SegmentationFractionalType = "OCCUPANCY"
        self.MaximumFractionalValue = _WHOLE
        self.ContentLabel = "INTERVAL_WIDTH"
        self.ContentDescription = "Width of the 90 % interval of generated pixels"
        self.SegmentSequence = [
            describe_segment(
                1,
                "Width of the 90 % interval",
                "Share of the range from black to white, of which 255 is the whole; 0 where it was measured.",
                _RANGE,
                (70, 30, 70),
                reconstruction.provenance,
            )
        ]
        put_frames(source, pictures, [(1, frame) for frame in range(len(reconstruction.uncertainty))], self)
        self.BitsAllocated = self.BitsStored = 8
        self.HighBit = 7
        # Half the width in a range of two is the whole width in a range of one.
        pixels = array_on_disk(reconstruction.uncertainty.shape, np.uint8)
        for shown, half_width in in_turn(pixels, reconstruction.uncertainty):
            shown[:] = np.rint(half_width.clip(0, 1) * _WHOLE)
        self.PixelData = as_file(pixels)
        self["PixelData"].VR = "OB"
