"""Which pixels of a result were generated, for machines: a Segmentation object beside the picture (PS3.3 A.51)."""

import math
from collections.abc import Sequence

import numpy as np
from highdicom.seg.content import SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from dicom_node.objects.companion import Companion
from dicom_node.objects.identity import Origin
from dicom_node.objects.segment_frames import describe_image, describe_segment, put_frames
from dicom_node.objects.views import frames_with_some
from inference.on_disk import array_on_disk, as_file, let_go
from inference.reconstruction import Provenance, Reconstruction

_GENERATED, _ELSEWHEN = 1, 2


class Segmentation(Companion):
    """Segmentation Image (PS3.3 A.51), BINARY: segment 1, "Generated pixels", and, where there are any, segment 2,
    "Measured at another time".

    Segment 1 has a frame for each of the picture, an empty one too, so that each says what of it was generated;
    segment 2 has one where there is something to show. Frames refer to those of the picture and of its source
    (C.7.6.16.2.6), since projections have no frame of reference.
    """

    def __init__(
        self, source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, origin: Origin
    ) -> None:
        """source: the image that was reconstructed; only its header is read.

        pictures: what was made of it, of this origin.
        The same arguments give the same object, byte for byte.
        """
        super().__init__(
            source,
            pictures,
            reconstruction.provenance,
            kind="segmentation",
            sop_class_uid=SegmentationStorage,
            modality="SEG",
            title="Mask of GENERATED pixels",
            origin=origin,
        )
        frames = _frames(reconstruction)
        describe_image(source, pictures, self)
        self._describe_segments(reconstruction.provenance, {segment for segment, _ in frames})
        put_frames(source, pictures, frames, self)
        self._put_pixels(reconstruction, frames)

    def _describe_segments(self, made: Provenance, used: set[int]) -> None:
        """Segmentation Image (C.8.20.2)."""
        self.SegmentationType = "BINARY"
        self.SegmentsOverlap = "NO"
        self.ContentLabel = "GENERATED_PIXELS"
        self.ContentDescription = "Pixels of the picture that were not measured"
        self.SegmentSequence = [_segment(number, made) for number in sorted(used)]

    def _put_pixels(self, reconstruction: Reconstruction, frames: Sequence[tuple[int, int]]) -> None:
        """Image Pixel (C.7.6.3): one bit a pixel, the frames without a gap between them (PS3.5 8.1.1, D.2)."""
        self.BitsAllocated = self.BitsStored = 1
        self.HighBit = 0
        size = math.prod(reconstruction.aperture.shape[1:])
        packed = array_on_disk(((len(frames) * size + 7) // 8,), np.uint8)
        # Eight frames fill whole bytes, whatever their size.
        for first in range(0, len(frames), 8):
            masks = [_mask(reconstruction, *frame) for frame in frames[first : first + 8]]
            packed[first * size // 8 : (first + 8) * size // 8] = np.packbits(masks, bitorder="little")
            let_go(reconstruction.aperture, reconstruction.elsewhen, packed)
        self.PixelData = as_file(packed)
        self["PixelData"].VR = "OB"


def _frames(reconstruction: Reconstruction) -> list[tuple[int, int]]:
    """The segment of each frame, and the frame of the picture that it belongs to, from 0."""
    every = range(len(reconstruction.aperture))
    taken_over = frames_with_some(reconstruction.elsewhen)
    return [*((_GENERATED, frame) for frame in every), *((_ELSEWHEN, frame) for frame in taken_over)]


def _mask(reconstruction: Reconstruction, segment: int, frame: int) -> NDArray[np.bool_]:
    """(h, w) bool, True = the pixel is of the segment."""
    elsewhen = reconstruction.elsewhen[frame]
    return np.asarray(elsewhen if segment == _ELSEWHEN else ~(reconstruction.aperture[frame] | elsewhen))


def _segment(number: int, made: Provenance) -> SegmentDescription:
    """Segment Description (C.8.20.4)."""
    kinds: dict[int, tuple[str, str, Code, tuple[float, float, float]]] = {
        _GENERATED: ("Generated pixels", "Made by the model; measured in no frame.", codes.SCT.Estimated, (65, 45, 65)),
        _ELSEWHEN: (
            "Measured at another time",
            "Hidden in this frame; taken over from another frame of the same view.",
            codes.SCT.Measured,
            (60, -10, -40),
        ),
    }
    label, description, kind, colour = kinds[number]
    return describe_segment(number, label, description, kind, colour, made)
