"""A picture's file in another transfer syntax, nothing lost: frame by frame, and compared before it is believed."""

import struct
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

#: What pictures are compressed with, the best first by measurement (docs/decisions/0025).
LOSSLESS: tuple[UID, ...] = (JPEGLSLossless, JPEG2000Lossless, RLELossless)

#: What a frame is encoded by.
_DESCRIBED = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010)
_ITEM, _END = struct.pack("<HH", 0xFFFE, 0xE000), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_UNDEFINED = 0xFFFFFFFF


def rewrite(path: Path, syntax: UID, target: Path) -> bool:
    """Write a grey picture in explicit little endian anew in a transfer syntax of `LOSSLESS`.

    One frame at a time is in memory. Each is decoded again and compared, byte for byte: measured pixels are not left to
    an encoder's good faith. False, and what is in `target` is of no use, where one differs or cannot be encoded. Raises
    OSError where a file cannot be read or written.
    """
    with path.open("rb") as file, target.open("wb") as out:
        header = dcmread(file, stop_before_pixels=True)
        if any(header.get(keyword) is None for keyword in _DESCRIBED) or header.SamplesPerPixel != 1:
            return False
        if header.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
            return False
        frames = list(_frames_at(file, header))
        if not frames:
            return False
        header.file_meta.TransferSyntaxUID = syntax
        dcmwrite(out, header, implicit_vr=False, little_endian=True, enforce_file_format=True)
        if not _encapsulate(file, frames, header, syntax, out):
            return False
        # What lies behind the pixel data is written in explicit VR, as it is here.
        file.seek(sum(frames[-1]) + sum(size for _, size in frames) % 2)
        copyfileobj(file, out)
        return True


def _frames_at(file: BinaryIO, header: Dataset) -> Iterator[tuple[int, int]]:
    """Where each frame begins in the file, and its bytes; none where the pixel data are not as the header says."""
    element = file.read(12)
    size = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
    count = int(header.get("NumberOfFrames") or 1)
    whole = len(element) == 12 and element[:4] == _PIXEL_DATA and header.BitsAllocated in (8, 16)
    if not whole or struct.unpack("<I", element[8:])[0] != size * count + size * count % 2:
        return
    begin = file.tell()
    yield from ((begin + number * size, size) for number in range(count))


def _encapsulate(file: BinaryIO, frames: list[tuple[int, int]], header: Dataset, syntax: UID, out: BinaryIO) -> bool:
    """Encapsulated pixel data with a Basic Offset Table, which is filled in at the end (PS3.5 A.4)."""
    out.write(_PIXEL_DATA + b"OB" + struct.pack("<HI", 0, _UNDEFINED))
    out.write(_ITEM + struct.pack("<I", 4 * len(frames)))
    table = out.tell()
    out.write(bytes(4 * len(frames)))
    first = out.tell()
    offsets = []
    for begin, size in frames:
        file.seek(begin)
        code = _encoded(file.read(size), header, syntax)
        offsets.append(out.tell() - first)
        if code is None or offsets[-1] >= _UNDEFINED:
            return False
        code += b"\0" * (len(code) % 2)
        out.write(_ITEM + struct.pack("<I", len(code)) + code)
    out.write(_END)
    end = out.tell()
    out.seek(table)
    out.write(struct.pack(f"<{len(offsets)}I", *offsets))
    out.seek(end)
    return True


def _encoded(frame: bytes, header: Dataset, syntax: UID) -> bytes | None:
    """The code stream of a frame; None where it would not give the same bytes again."""
    how: dict[str, Any] = {
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": int(header.BitsAllocated),
        "bits_stored": int(header.BitsStored),
        "pixel_representation": int(header.PixelRepresentation),
        "photometric_interpretation": str(header.PhotometricInterpretation),
        "pixel_keyword": "PixelData",
    }
    if syntax == JPEGLSLossless and how["pixel_representation"] and how["bits_stored"] < how["bits_allocated"]:
        return None  # it knows no sign (ISO/IEC 14495-1), and not every decoder puts it back into the upper bits
    kind = np.dtype(f"<{'i' if how['pixel_representation'] else 'u'}{how['bits_allocated'] // 8}")
    pixels = np.frombuffer(frame, dtype=kind).reshape(how["rows"], how["columns"])
    try:
        code = bytes(get_encoder(syntax).encode(pixels, **how))
        again, _ = get_decoder(syntax).as_array(encapsulate([code]), index=0, raw=True, **how)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError):
        return None  # what encoders raise for values that they cannot hold
    return code if np.array_equal(again, pixels) else None
