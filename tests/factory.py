"""The DICOM objects of the tests: small angiography cines, complete enough for a validator, plainly invented.

xa(frames=3, bits_stored=10)                 a cine whose aperture shows in the pixels and in the attributes
xa(aperture=None)                            the open field
xa(missing=["PatientID"], BodyPartExamined="CHEST")
write(xa(), tmp_path / "a.dcm")
"""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.tag import Tag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    XRayAngiographicImageStorage,
    generate_uid,
)

from dicom_node.commands.demo import SAMPLE
from inference.reconstruction import Provenance, Reconstruction
from tests import htj2k

#: Every compressed transfer syntax in which `write` can put an object: those that lose nothing, and the others.
COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)

#: Which of dcmtk's programs writes a transfer syntax.
_DCMTK = {
    DeflatedExplicitVRLittleEndian: ("dcmconv", "+td"),
    ExplicitVRBigEndian: ("dcmconv", "+tb"),
    JPEGBaseline8Bit: ("dcmcjpeg", "--encode-baseline", "--uid-never"),
    JPEGExtended12Bit: ("dcmcjpeg", "--encode-extended", "--uid-never"),
    JPEGLosslessSV1: ("dcmcjpeg", "--encode-lossless-sv1"),
    JPEGLSNearLossless: ("dcmcjpls", "--encode-nearlossless", "--uid-never"),
}


class Box(NamedTuple):
    """A rectangular aperture in pixels, from 0; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def xa(
    *,
    frames: int = 4,
    rows: int = 64,
    columns: int = 64,
    bits_stored: int = 12,
    bits_allocated: int | None = None,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    aperture: Box | Sequence[Box] | Literal["centre"] | None = "centre",
    attributes_say: Literal["shutter", "collimator", "both", "nothing"] = "both",
    stored: np.ndarray | None = None,
    sop_class: str = XRayAngiographicImageStorage,
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
    instance_number: int = 1,
    patient_name: str = "Invented^Patient",
    charset: str | list[str] | None = "ISO_IR 100",
    seed: int = 0,
    missing: Sequence[str] = (),
    **attributes: Any,
) -> Dataset:
    """An X-Ray Angiographic image in explicit little endian; with `frames` 0 one frame and no NumberOfFrames.

    aperture: one box for the cine, or one for each frame (then the attributes say nothing), or None for the
        open field. What lies outside it keeps 4 % of its signal.
    stored: (n, h, w) pixel values to use in place of the drawn ones.
    missing: keywords to leave out; attributes: keywords to set, over everything else.
    """
    if stored is not None:
        frames, rows, columns = stored.shape[:3]
    boxes = _boxes(aperture, max(frames, 1), rows, columns)
    if stored is None:
        stored = draw(boxes, max(frames, 1), rows, columns, bits_stored, signed, photometric, seed)
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    if charset is None:
        del dataset.SpecificCharacterSet
    _identify(dataset, sop_class, study_instance_uid, series_instance_uid, sop_instance_uid)
    dataset.PatientName = patient_name
    dataset.InstanceNumber = instance_number
    _describe_acquisition(dataset)
    _describe_timing(dataset, frames)
    if isinstance(aperture, Box) or aperture == "centre":
        _describe_aperture(dataset, boxes[0], attributes_say)
    _put_pixels(dataset, stored, bits_stored, bits_allocated or (8 if bits_stored <= 8 else 16), signed, photometric)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    for keyword in missing:
        if keyword in dataset:
            delattr(dataset, keyword)
    return dataset


def table(first: int = 0, **attributes: Any) -> Dataset:
    """A look-up table of 4096 entries for the values from `first` on, which darkens what lies between its ends."""
    made = Dataset()
    made.LUTDescriptor = [4096, first, 16]
    made["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    made.add_new("LUTData", "OW", (np.linspace(0, 1, 4096) ** 2 * 65535).astype("<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def write(dataset: Dataset, path: Path, transfer_syntax: str | None = None) -> Path:
    """Write a part-10 file, in another transfer syntax if one is named, and return its path."""
    if transfer_syntax in _DCMTK:
        plain = path.with_suffix(".plain")
        dcmwrite(plain, dataset, enforce_file_format=True)
        subprocess.run([*_DCMTK[transfer_syntax], plain, path], check=True)
        plain.unlink()
        return path
    if transfer_syntax in htj2k.HIGH_THROUGHPUT:
        dcmwrite(path, dataset, enforce_file_format=True)
        dataset = dcmread(path)
        htj2k.compress(dataset, transfer_syntax)
    elif transfer_syntax in (*COMPRESSED, JPEG2000):
        dcmwrite(path, dataset, enforce_file_format=True)
        dataset = dcmread(path)
        how = {"j2k_cr": [4]} if transfer_syntax == JPEG2000 else {}
        dataset.compress(transfer_syntax, generate_instance_uid=False, **how)
    elif transfer_syntax is not None:
        dcmwrite(path, dataset, enforce_file_format=True)
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
        dcmwrite(path, dataset, implicit_vr=transfer_syntax == "1.2.840.10008.1.2", little_endian=True)
        return path
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def malformed(dataset: Dataset, keyword: str, vr: str, value: str | bytes) -> Dataset:
    """The data set with just these bytes for an attribute, as if they had been read from a file."""
    tag, content = Tag(keyword), value.encode() if isinstance(value, str) else value
    dataset._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)
    return dataset


def reconstruction(
    dataset: Dataset, aperture: Box | Sequence[Box] | np.ndarray | None = None, noise: int = 0, **made: Any
) -> Reconstruction:
    """What a model might return for a data set: its pixels in the aperture (the centre), noise outside.

    noise: seed of that noise; made: fields of the provenance to set.
    """
    stored = dataset.pixel_array
    stored = stored[None] if stored.ndim == 2 else stored
    if not isinstance(aperture, np.ndarray):
        aperture = measured(aperture or centre(*stored.shape[1:]), *stored.shape)
    lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    invented = np.random.default_rng(noise).integers(lowest, lowest + 2**dataset.BitsStored, stored.shape)
    provenance: dict[str, Any] = {
        "model": "fullfield",
        "version": "1.0",
        "digest": "0123456789abcdef" * 4,
        "mode": "mean",
        "seed": 7,
        "steps": 4,
        "device": "cpu",
        "aperture_source": "attributes",
        "frames_behind": 1.0,
        "residual_signal": 0.1,
    }
    return Reconstruction(
        stored=np.where(aperture, stored, invented.astype(stored.dtype)),
        aperture=aperture,
        elsewhen=np.zeros_like(aperture),
        uncertainty=np.where(aperture, 0, 0.25).astype(np.float32),
        provenance=Provenance(**(provenance | made)),
    )


def measured(boxes: Box | Sequence[Box], frames: int, rows: int, columns: int) -> np.ndarray:
    """The aperture as a mask: (n, h, w) bool, True inside the box of each frame."""
    each = [boxes] * frames if isinstance(boxes, Box) else list(boxes)
    mask = np.zeros((frames, rows, columns), dtype=bool)
    for frame, box in zip(mask, each, strict=True):
        frame[box.top : box.bottom, box.left : box.right] = True
    return mask


def centre(rows: int, columns: int) -> Box:
    """The aperture that `xa` draws unless told otherwise: the middle half of each side."""
    return Box(columns // 4, rows // 4, columns - columns // 4, rows - rows // 4)


@cache
def _chest() -> Image.Image:
    """What the aperture of the bundled sample shows in its middle frame, stretched to grey levels of 0.2 to 0.95."""
    shown = pixel_array(dcmread(SAMPLE), index=12)[124:328, 180:396].astype(np.float32)
    low, high = np.percentile(shown, [1, 99])
    return Image.fromarray(np.clip(0.2 + 0.75 * (shown - low) / (high - low), 0, 1))


def draw(
    boxes: Sequence[Box] | None,
    frames: int,
    rows: int,
    columns: int,
    bits_stored: int,
    signed: bool,
    photometric: str,
    seed: int,
) -> np.ndarray:
    """The bundled chest, enlarged, with noise of its own, collimated: (n, h, w) integers.

    It is a chest since a worker declines what is unlike the pictures that the model knows.
    """
    noise = np.random.default_rng(seed)
    chest = _chest().resize((columns, rows), Image.Resampling.BILINEAR)
    grey = np.asarray(chest) + noise.normal(0, 0.008, (frames, rows, columns))
    if boxes is not None:
        mask = measured(boxes, frames, rows, columns)
        grey = np.where(mask, grey, 0.04 * grey + 0.01)
    if photometric == "MONOCHROME1":
        grey = 1 - grey
    levels = np.round(np.clip(grey, 0, 1) * (2**bits_stored - 1)).astype(np.int64)
    if signed:
        return (levels - 2 ** (bits_stored - 1)).astype(np.int8 if bits_stored <= 8 else np.int16)
    levels = levels.astype(np.uint8 if bits_stored <= 8 else np.uint16)
    return np.repeat(levels[..., None], 3, axis=-1) if photometric == "RGB" else levels


def _boxes(aperture: Any, frames: int, rows: int, columns: int) -> list[Box] | None:
    if aperture is None:
        return None
    if aperture == "centre":
        aperture = centre(rows, columns)
    return [aperture] * frames if isinstance(aperture, Box) else list(aperture)


def _identify(dataset: Dataset, sop_class: str, study: str | None, series: str | None, instance: str | None) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = instance or generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = series or generate_uid()
    dataset.PatientID = "INVENTED-1"
    dataset.PatientBirthDate = "19500101"
    dataset.PatientSex = "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240102"
    dataset.StudyTime = "101112"
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101200.5"
    dataset.TimezoneOffsetFromUTC = "+0100"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Invented study"
    dataset.SeriesNumber = 2
    dataset.SeriesDescription = "Invented cine"
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "CHEST"


def _describe_acquisition(dataset: Dataset) -> None:
    dataset.Modality = "XA"
    dataset.Manufacturer = "Invented Imaging"
    dataset.ManufacturerModelName = "C-arm 1"
    dataset.DeviceSerialNumber = "0001"
    dataset.SoftwareVersions = "1.0"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"
    dataset.PixelIntensityRelationship = "LIN"
    dataset.RadiationSetting = "SC"
    dataset.RadiationMode = "PULSED"
    dataset.KVP = "80"
    dataset.XRayTubeCurrent = 20
    dataset.ExposureTime = 8
    dataset.ImagerPixelSpacing = [0.3, 0.3]
    dataset.DistanceSourceToDetector = "1100"
    dataset.DistanceSourceToPatient = "750"
    dataset.EstimatedRadiographicMagnificationFactor = "1.467"
    dataset.PositionerMotion = "STATIC"
    dataset.PositionerPrimaryAngle = "30"
    dataset.PositionerSecondaryAngle = "-10"


def _describe_timing(dataset: Dataset, frames: int) -> None:
    if frames == 0:
        return
    dataset.NumberOfFrames = frames
    dataset.FrameIncrementPointer = 0x00181063
    dataset.FrameTime = "66.667"
    dataset.CineRate = 15
    dataset.RecommendedDisplayFrameRate = 15


def _describe_aperture(dataset: Dataset, box: Box, by: str) -> None:
    """C.7.6.11 and C.8.7.3 count from 1; the edges given are the outermost measured columns and rows."""
    for name in {
        "both": ("Shutter", "Collimator"),
        "shutter": ("Shutter",),
        "collimator": ("Collimator",),
    }.get(by, ()):
        setattr(dataset, f"{name}Shape", "RECTANGULAR")
        setattr(dataset, f"{name}LeftVerticalEdge", box.left + 1)
        setattr(dataset, f"{name}RightVerticalEdge", box.right)
        setattr(dataset, f"{name}UpperHorizontalEdge", box.top + 1)
        setattr(dataset, f"{name}LowerHorizontalEdge", box.bottom)


def _put_pixels(
    dataset: Dataset,
    stored: np.ndarray,
    bits_stored: int,
    bits_allocated: int,
    signed: bool,
    photometric: str,
) -> None:
    dataset.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = stored.shape[1:3]
    dataset.BitsAllocated = bits_allocated
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    lowest = -(2 ** (bits_stored - 1)) if signed else 0
    dataset.WindowCenter = lowest + 2 ** (bits_stored - 1)
    dataset.WindowWidth = 2**bits_stored
    kind = np.dtype(f"<{'i' if signed else 'u'}{bits_allocated // 8}")
    data = stored.astype(kind).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if bits_allocated == 8 else "OW"
