"""Results as Secondary Capture objects: one multi-frame object, or single frames where no such class fits."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
from highdicom.base import SOPClass
from highdicom.sc.enum import ConversionTypeValues
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DA, TM

from config.errors import UnsupportedImage
from config.mark import Mark
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects.grey_scale import (
    GreyScale,
    black_and_white,
    put_frame_grey_scale,
    put_multiframe_grey_scale,
    read_grey_scale,
)
from dicom_node.objects.identity import (
    result_instance_uid,
    result_series_uid,
)
from dicom_node.objects.mark import Drawn, draw_mark
from dicom_node.objects.provenance import (
    MANUFACTURER,
    Statement,
    instance_moment,
    software_versions,
    state_derivation,
)
from dicom_node.objects.source_header import read_value, take_over
from dicom_node.objects.timing import carry_rate, carry_timing
from inference.reconstruction import Reconstruction


def secondary_captures(
    source: Dataset,
    reconstruction: Reconstruction,
    *,
    route: str,
    mark: Mark,
    created: datetime | None = None,
) -> list[Dataset]:
    """The objects that carry a reconstruction of `source` to PACS, in a new series of its study.

    One multi-frame object; or one object a frame where the multi-frame classes cannot hold the source's
    stored values or their look (signed values, 8-bit MONOCHROME1, tables). The same arguments give the same
    objects, byte for byte.

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
    statement = Statement.of(reconstruction, mark=mark, drawn=drawn, route=route, created=created)
    frames = len(reconstruction.stored)
    if grey.form != "frames":
        return [MultiFrameSecondaryCapture(source, pixels, frames=frames, grey=grey, statement=statement)]
    size = int(source.Rows) * int(source.Columns) * _bytes_per_pixel(grey)
    return [
        SingleFrameSecondaryCapture(
            source,
            pixels[frame * size : (frame + 1) * size],
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
        uid = read_value(source, keyword)
        if uid is None:
            raise UnsupportedImage(f"The header lacks {keyword}.")
        if not isinstance(uid, str) or re.fullmatch(r"[0-9.]{1,64}", uid) is None:
            raise UnsupportedImage(f"{keyword} is not one UID; the modality's vendor mends its header.")


class _Capture(SOPClass):  # type: ignore[misc]  # highdicom is not followed
    """What both classes share: an instance of the result series, with the source's header and the marks."""

    def __init__(
        self,
        source: Dataset,
        pixels: bytes,
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
        take_over(source, self)
        self.SeriesDescription = _series_description(source)
        state_derivation(source, self, statement, frame)
        self._describe_capture(source, statement)
        self._put_pixels(source, pixels, grey)

    def _describe_capture(self, source: Dataset, statement: Statement) -> None:
        """SC Equipment (C.8.6.1) and SC Image (C.8.6.2).

        Burned In Annotation asks whether the pixels identify the patient (C.7.6.1): the mark does not, so the
        source's answer stands.
        """
        made = statement.provenance
        self.ConversionType = ConversionTypeValues.SYN.value
        self.SecondaryCaptureDeviceManufacturer = MANUFACTURER
        self.SecondaryCaptureDeviceManufacturerModelName = made.model[:64]
        self.SecondaryCaptureDeviceSoftwareVersions = software_versions(made)
        self.DateOfSecondaryCapture = DA(statement.created.date())
        self.TimeOfSecondaryCapture = TM(statement.created.time())
        self.BurnedInAnnotation = "YES" if read_value(source, "BurnedInAnnotation") == "YES" else "NO"

    def _put_pixels(self, source: Dataset, pixels: bytes, grey: GreyScale) -> None:
        """Image Pixel (C.7.6.3)."""
        self.SamplesPerPixel = 1
        self.Rows = source.Rows
        self.Columns = source.Columns
        self.BitsAllocated = 8 * _bytes_per_pixel(grey)
        self.BitsStored = grey.bits_stored
        self.HighBit = grey.bits_stored - 1
        self.PixelRepresentation = int(grey.signed)
        self.PixelData = pixels if len(pixels) % 2 == 0 else pixels + b"\0"
        self["PixelData"].VR = "OB" if self.BitsAllocated == 8 else "OW"


class MultiFrameSecondaryCapture(_Capture):
    """Multi-frame Grayscale Byte or Word Secondary Capture Image (PS3.3 A.8.3, A.8.4)."""

    def __init__(
        self,
        source: Dataset,
        pixels: bytes,
        *,
        frames: int,
        grey: GreyScale,
        statement: Statement,
    ) -> None:
        """`pixels`: all frames, little endian, in one or two bytes a pixel as BitsStored asks."""
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
            instance_number=_instance_number(source),
            frame=None,
            grey=grey,
            statement=statement,
        )
        carry_timing(source, self, frames)
        put_multiframe_grey_scale(source, grey, self)


class SingleFrameSecondaryCapture(_Capture):
    """Secondary Capture Image (PS3.3 A.8.1) of one frame; it holds every stored value and every look."""

    def __init__(
        self,
        source: Dataset,
        pixels: bytes,
        *,
        frame: int,
        frames: int,
        grey: GreyScale,
        statement: Statement,
    ) -> None:
        """`pixels`: the frame with index `frame` (from 0) of `frames`, little endian."""
        number = _instance_number(source)
        super().__init__(
            source,
            pixels,
            sop_class_uid=SecondaryCaptureImageStorage,
            part=frame,
            instance_number=number if frames == 1 else _frame_number(number, frame),
            frame=frame + 1 if "NumberOfFrames" in source else None,
            grey=grey,
            statement=statement,
        )
        carry_rate(source, self)
        put_frame_grey_scale(source, grey, self)


def _marked_pixels(reconstruction: Reconstruction, grey: GreyScale, mark: Mark) -> tuple[bytes, Drawn]:
    """The pixel data with the mark, written once: a cine may be as large as the memory left."""
    stored = reconstruction.stored
    kind = np.dtype(f"<{'i' if grey.signed else 'u'}{_bytes_per_pixel(grey)}")
    black, white = black_and_white(grey, stored)
    buffer = BytesIO(bytes(stored.size * kind.itemsize))
    with buffer.getbuffer() as view:
        marked = np.frombuffer(view, dtype=kind).reshape(stored.shape)
        marked[:] = stored
        drawn = draw_mark(marked, reconstruction.aperture, reconstruction.elsewhen, mark, black=black, white=white)
        del marked
    return buffer.getvalue(), drawn


def _check_shapes(source: Dataset, reconstruction: Reconstruction) -> None:
    frames = int(source.get("NumberOfFrames") or 1)
    shape = (frames, int(source.Rows), int(source.Columns))
    for name in ("stored", "aperture", "elsewhen", "uncertainty"):
        found = getattr(reconstruction, name).shape
        if found != shape:
            raise ValueError(f"{name} of the reconstruction is {found}, the source is {shape}.")


def _bytes_per_pixel(grey: GreyScale) -> int:
    return 1 if grey.bits_stored <= 8 else 2


def _series_number(source: Dataset) -> int:
    """Beside the source's series, as derived series are commonly numbered: 2 gives 201."""
    number = _positive(read_value(source, "SeriesNumber"))
    return number * 100 + 1 if number < 10_000_000 else number


def _instance_number(source: Dataset) -> int:
    return _positive(read_value(source, "InstanceNumber"))


def _frame_number(instance_number: int, frame: int) -> int:
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
