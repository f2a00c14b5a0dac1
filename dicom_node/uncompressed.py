"""An object's file in little endian without compression, whatever it was stored in (PS3.5 A.1 and A.2)."""

import struct
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from config.errors import UnsupportedImage
from dicom_node.stored_picture import PIXEL_DATA, WORDS, StoredPicture, opened, swapped

#: Bytes of the longest value that a length of 32 bits can tell (PS3.5 7.1.1).
_LONGEST = 0xFFFFFFFE


def write_uncompressed(path: Path, target: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    """Write the file anew; one frame at a time is in memory. Pixels in colour that were compressed become RGB.

    syntax: explicit or implicit VR little endian.
    Raises UnsupportedImage for what cannot be parsed or decoded, DamagedObject for a file that is gone, and OSError.
    """
    with opened(path, whole=True) as (header, picture), target.open("wb") as out:
        try:
            _write(header, picture, out, syntax)
        except (OSError, UnsupportedImage):
            raise
        except Exception as error:  # a value is decoded when it is written, and foreign bytes can raise anything
            raise UnsupportedImage("The data set has values that cannot be written in another encoding.") from error


def _write(header: Dataset, picture: StoredPicture | None, out: BinaryIO, syntax: UID) -> None:
    if header.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        header.walk(lambda _, element: _swap(element))
    header.file_meta.TransferSyntaxUID = syntax
    behind = Dataset()
    for tag in [tag for tag in header.keys() if tag > PIXEL_DATA]:  # noqa: SIM118 - iterating would decode everything
        behind[tag] = header[tag]
        del header[tag]
    first = None if picture is None or picture.length is not None else _describe_decoded(header, picture)
    dcmwrite(out, header, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=True)
    if picture is not None:
        _write_pixel_data(picture, first, out, syntax)
    tail = DicomIO(out)
    tail.is_implicit_VR, tail.is_little_endian = syntax.is_implicit_VR, True
    write_dataset(tail, behind, header.get("SpecificCharacterSet", "iso8859"))


def _describe_decoded(header: Dataset, picture: StoredPicture) -> bytes:
    """Let the header say what the pixels are when they are decoded; the first frame."""
    frame, described = picture.decode(0)
    header.PhotometricInterpretation = described["photometric_interpretation"]
    if described["samples_per_pixel"] > 1:
        header.PlanarConfiguration = described["planar_configuration"]
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in header:
            delattr(header, keyword)
    return frame.tobytes()


def _write_pixel_data(picture: StoredPicture, first: bytes | None, out: BinaryIO, syntax: UID) -> None:
    size = picture.length if first is None or picture.length is not None else len(first) * picture.frames
    assert size is not None
    size += size % 2
    if size > _LONGEST:
        raise UnsupportedImage("Without compression the pixel data are longer than an element can be (PS3.5 7.1.1).")
    vr = b"OW" if picture.bits_allocated > 8 else b"OB"
    out.write(struct.pack("<HH", PIXEL_DATA.group, PIXEL_DATA.element))
    out.write(struct.pack("<I", size) if syntax.is_implicit_VR else struct.pack("<2sHI", vr, 0, size))
    end = out.tell() + size
    if first is None:
        out.writelines(picture.value())
    else:
        out.write(first)
        for index in range(1, picture.frames):
            out.write(picture.decode(index)[0].tobytes())
    if out.tell() + 1 == end:
        out.write(b"\0")
    if out.tell() != end:
        raise UnsupportedImage("The pixel data are not as long as the header says (PS3.5 8.1.1).")


def _swap(element: DataElement) -> None:
    if (size := WORDS.get(element.VR)) and element.value:
        element.value = swapped(element.value, size)
