"""Results as pictures: Secondary Capture objects, of many frames or of one, or of the class of the source."""

import re
from datetime import UTC, datetime

import numpy as np
from highdicom.sc.enum import ConversionTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DA, TM

from config.errors import UnsupportedImage
from config.mark import Mark
from config.objects import ObjectProfile
from dicom_node.implementation import MANUFACTURER
from dicom_node.objects.grey_scale import (
    GreyScale,
    black_and_white,
    put_frame_grey_scale,
    put_multiframe_grey_scale,
    read_grey_scale,
)
from dicom_node.objects.mark import Drawn, draw_mark
from dicom_node.objects.picture import Picture, bytes_per_pixel, frame_number, picture_number
from dicom_node.objects.provenance import Statement, instance_moment, software_versions
from dicom_node.objects.timing import carry_rate, carry_timing
from dicom_node.objects.x_ray_image import XRayImage, can_be_like
from inference.header import value_of
from inference.on_disk import array_on_disk, in_turn
from inference.reconstruction import Reconstruction


def secondary_captures(
    source: Dataset,
    reconstruction: Reconstruction,
    *,
    route: str,
    mark: Mark,
    profile: ObjectProfile = "multiframe_sc",
    created: datetime | None = None,
) -> list[Dataset]:
    """The objects that carry a reconstruction of `source` to PACS, in a new series of its study.

    With the profile `multiframe_sc` one multi-frame object, or one object a frame where the multi-frame classes cannot
    hold the source's stored values or their look (signed values, 8-bit MONOCHROME1, tables); with `single_frames`
    always one a frame; with `like_source` one of the source's class, or as `multiframe_sc` where that cannot hold it.
    The same arguments give the same objects, byte for byte.

    source: the image that was reconstructed; only its header is read.
    created: when the result was made (aware); now if not given.
    Raises UnsupportedImage when the source lacks the UIDs that identify it, and ValueError when the
    reconstruction is not of this source.
    """
    check_identity(source)
    _check_shapes(source, reconstruction)
    grey = read_grey_scale(source)
    pixels, drawn = _marked_pixels(reconstruction, grey, mark)
    created = instance_moment(source, created or datetime.now(UTC))
    statement = Statement.of(reconstruction, mark=mark, drawn=drawn, route=route, profile=profile, created=created)
    frames = len(reconstruction.stored)
    if profile == "like_source" and can_be_like(source, grey):
        return [XRayImage(source, pixels, frames=frames, grey=grey, statement=statement)]
    if profile != "single_frames" and grey.form != "frames":
        return [MultiFrameSecondaryCapture(source, pixels, frames=frames, grey=grey, statement=statement)]
    return [
        SingleFrameSecondaryCapture(
            source,
            pixels[frame],
            frame=frame,
            frames=frames,
            grey=grey,
            statement=statement,
        )
        for frame in range(frames)
    ]


def check_identity(source: Dataset) -> None:
    """Raise UnsupportedImage where the source lacks a UID that its results have to name (PS3.5 9.1)."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        uid = value_of(source, keyword)
        if uid is None:
            raise UnsupportedImage(f"The header lacks {keyword} (PS3.5 9.1); the modality's vendor mends that.")
        if not isinstance(uid, str) or re.fullmatch(r"[0-9.]{1,64}", uid) is None:
            raise UnsupportedImage(f"{keyword} is not one UID (PS3.5 9.1); the modality's vendor mends its header.")


class MultiFrameSecondaryCapture(Picture):
    """Multi-frame Grayscale Byte or Word Secondary Capture Image (PS3.3 A.8.3, A.8.4)."""

    def __init__(
        self,
        source: Dataset,
        pixels: NDArray[np.integer],
        *,
        frames: int,
        grey: GreyScale,
        statement: Statement,
    ) -> None:
        """`pixels`: (n, h, w) little endian, in one or two bytes a pixel as BitsStored asks."""
        classes = {
            "byte": MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
            "word": MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        }
        if grey.form not in classes:
            raise ValueError("PixelRepresentation, BitsStored or a LUT of the source has no multi-frame class.")
        super().__init__(
            source,
            pixels,
            sop_class_uid=classes[grey.form],
            part=0,
            instance_number=picture_number(source),
            frame=None,
            grey=grey,
            statement=statement,
        )
        _describe_capture(self, statement)
        carry_timing(source, self, frames)
        put_multiframe_grey_scale(source, grey, self)


class SingleFrameSecondaryCapture(Picture):
    """Secondary Capture Image (PS3.3 A.8.1) of one frame; it holds every stored value and every look."""

    def __init__(
        self,
        source: Dataset,
        pixels: NDArray[np.integer],
        *,
        frame: int,
        frames: int,
        grey: GreyScale,
        statement: Statement,
    ) -> None:
        """`pixels`: (h, w) the frame with index `frame` (from 0) of `frames`, little endian."""
        number = picture_number(source)
        super().__init__(
            source,
            pixels,
            sop_class_uid=SecondaryCaptureImageStorage,
            part=frame,
            instance_number=number if frames == 1 else frame_number(number, frame),
            frame=frame + 1 if "NumberOfFrames" in source else None,
            grey=grey,
            statement=statement,
        )
        _describe_capture(self, statement)
        carry_rate(source, self)
        put_frame_grey_scale(source, grey, self)


def _describe_capture(result: Dataset, statement: Statement) -> None:
    """SC Equipment (C.8.6.1) and SC Image (C.8.6.2)."""
    made = statement.provenance
    result.ConversionType = ConversionTypeValues.SYN.value
    result.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    result.SecondaryCaptureDeviceManufacturerModelName = made.model[:64]
    result.SecondaryCaptureDeviceSoftwareVersions = software_versions(made)
    result.DateOfSecondaryCapture = DA(statement.created.date())
    result.TimeOfSecondaryCapture = TM(statement.created.time())


def _marked_pixels(reconstruction: Reconstruction, grey: GreyScale, mark: Mark) -> tuple[NDArray[np.integer], Drawn]:
    """The pixel data with the mark, (n, h, w)."""
    stored = reconstruction.stored
    black, white = black_and_white(grey, stored)
    marked = array_on_disk(stored.shape, f"<{'i' if grey.signed else 'u'}{bytes_per_pixel(grey)}")
    for copy, frame in in_turn(marked, stored):
        copy[:] = frame
    drawn = draw_mark(marked, reconstruction.aperture, reconstruction.elsewhen, mark, black=black, white=white)
    return marked, drawn


def _check_shapes(source: Dataset, reconstruction: Reconstruction) -> None:
    frames = int(source.get("NumberOfFrames") or 1)
    shape = (frames, int(source.Rows), int(source.Columns))
    for name in ("stored", "aperture", "elsewhen", "uncertainty"):
        found = getattr(reconstruction, name).shape
        if found != shape:
            raise ValueError(f"{name} of the reconstruction is {found}, the source is {shape}.")
