"""Invented images that have every attribute of their class, each with a value that tells which image it came from."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, XRayAngiographicImageStorage

from dicom_node.objects.source_header import CARRIED
from inference.reconstruction import Provenance, Reconstruction

#: Without these a picture is another one: they follow from the pixels, or have a source of their own below.
_NOT_MARKED = frozenset(
    {
        *("ModalityLUTSequence", "VOILUTSequence", "FrameTimeVector", "LossyImageCompressionMethod"),
        *("PixelDataProviderURL", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelPaddingRangeLimit"),
        *("FloatPixelData", "DoubleFloatPixelData", "EncapsulatedPixelDataValueTotalLength", "VOILUTFunction"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an image of a pair is to be, beside its marks."""

    sop_class_uid: UID = XRayAngiographicImageStorage
    signed: bool = False
    photometric: str = "MONOCHROME2"
    #: Keywords with their values, None for an attribute that is to be absent.
    values: dict[str, Any] = field(default_factory=dict)


def marked_source(source: Source, number: int) -> Dataset:
    """An image of three or four frames; `number` (1 or 2) is in every value."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _keywords(source.sop_class_uid):
        _set(image, keyword, number)
    pixels = _pixels(source, number)
    sound = {
        "SOPClassUID": source.sop_class_uid,
        "SpecificCharacterSet": ("ISO_IR 100", "ISO_IR 144")[number - 1],
        "TimezoneOffsetFromUTC": ("+0100", "-0300")[number - 1],
        "PatientSex": ("F", "M")[number - 1],
        "SyntheticData": "NO",
        "BurnedInAnnotation": ("YES", "NO")[number - 1],
        "LossyImageCompression": ("00", "01")[number - 1],
        "ImageType": ["ORIGINAL", "PRIMARY", "SINGLE PLANE"],
        "PixelIntensityRelationship": ("DISP", "LIN")[number - 1],
        "RadiationSetting": ("SC", "GR")[number - 1],
        "RescaleSlope": None if number == 2 else 2,
        "RescaleIntercept": None if number == 2 else 3,
        "RescaleType": None if number == 2 else "US",
        "FrameIncrementPointer": 0x00181063,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": source.photometric,
        "NumberOfFrames": pixels.shape[0],
        "Rows": pixels.shape[1],
        "Columns": pixels.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 8 + 2 * number,
        "HighBit": 7 + 2 * number,
        "PixelRepresentation": int(source.signed),
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in (sound | source.values).items():
        if value is not None:
            setattr(image, keyword, value)
        elif keyword in image:
            delattr(image, keyword)
    image["PixelData"].VR = "OW"
    return image


def marked_reconstruction(source: Source, number: int) -> Reconstruction:
    """What two models might make of the images: nothing that is said of one holds for the other."""
    pixels = _pixels(source, number)
    aperture = np.zeros(pixels.shape, dtype=bool)
    aperture[:, 16:-16, 20:-20] = True
    aperture[:, 16 : 16 + 4 * (number - 1), 20:24] = False  # no rectangle where the number is 2
    elsewhen = np.zeros_like(aperture)
    elsewhen[0, :number, :10] = True
    return Reconstruction(
        stored=pixels,
        aperture=aperture,
        elsewhen=elsewhen,
        uncertainty=np.where(aperture | elsewhen, 0, number / 8).astype(np.float32),
        provenance=Provenance(
            model=f"model {number}",
            version=f"{number}.0",
            digest=f"{number}" * 64,
            mode=("mean", "sample")[number - 1],
            seed=number,
            steps=number,
            device=("cpu", "cuda")[number - 1],
            aperture_source=("attributes", "pixels")[number - 1],
            frames_behind=float(number),
            residual_signal=number / 8,
        ),
    )


def table(number: int, *, modality: bool = False) -> Dataset:
    """An item of a VOI LUT Sequence, or of a Modality LUT Sequence."""
    item = Dataset()
    item.LUTDescriptor = [16, 0, 16]
    item.LUTExplanation = f"{number}"
    if modality:
        item.ModalityLUTType = "US"
    item.add_new("LUTData", "US", [16 * number * entry for entry in range(16)])
    return item


def _pixels(source: Source, number: int) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
    shape = (2 + number, 48 + 16 * number, 64 + 16 * number)
    return np.random.default_rng(number).integers(0, 500, shape).astype("<i2" if source.signed else "<u2")


def _keywords(sop_class_uid: UID) -> list[str]:
    """The attributes of a class's modules, and of others that pictures take over, but for repeating groups."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
    rows = [row for module in modules for row in get_module_attribute_map()[module["key"]] if not row["path"]]
    carried = [keyword for keywords in CARRIED.values() for keyword in keywords]
    named = dict.fromkeys([*(row["keyword"] for row in rows), *carried])
    return [keyword for keyword in named if tag_for_keyword(keyword) is not None and keyword not in _NOT_MARKED]


def _set(image: Dataset, keyword: str, number: int) -> None:
    tag = tag_for_keyword(keyword)
    if tag is None or not dictionary_has_tag(tag):
        return
    vr = dictionary_VR(tag).split(" or ")[0]
    if vr == "SQ":
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
            f"{number}",
            "99MARK",
            f"{keyword[:40]} {number}",
        )
        image.add_new(tag, vr, [item])
        return
    first = dictionary_VM(tag).split("-")[0]
    count = int(first) if first.isdigit() else 1
    value = _VALUES[vr](keyword, number)
    image.add_new(tag, vr, value if count == 1 else [value] * count)


_TEXTS = dict.fromkeys(
    ("LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR"), lambda keyword, number: f"{keyword[:14]}{number}"
)
_BYTES = dict.fromkeys(("OB", "OW", "UN", "OD", "OF", "OL", "OV"), lambda _, number: bytes([number] * 8))
_WHOLE = dict.fromkeys(("IS", "US", "SS", "UL", "SL", "SV", "UV"), lambda _, number: number)
_REAL = dict.fromkeys(("DS", "FL", "FD"), lambda _, number: number + 0.5)
_VALUES: dict[str, Any] = {
    **_TEXTS,
    **_BYTES,
    **_WHOLE,
    **_REAL,
    "AE": lambda _, number: f"MARK{number}",
    "AS": lambda _, number: f"00{number}Y",
    "AT": lambda _, number: 0x00080000 + number,
    "CS": lambda _, number: f"MARK{number}",
    "DA": lambda _, number: f"2024010{number}",
    "DT": lambda _, number: f"2024010{number}101010",
    "TM": lambda _, number: f"10101{number}",
    "UI": lambda keyword, number: f"1.2.{tag_for_keyword(keyword)}.{number}",
}
