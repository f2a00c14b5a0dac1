"""What a code stream says of its pixels, where the header says something else of them (PS3.5 8.2)."""

from collections.abc import Iterator
from io import BufferedIOBase

from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from inference.header import UNREADABLE, value_of

_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
_JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
#: Start Of Frame of JPEG-LS (ISO/IEC 14495-1 C.2.2).
_START_OF_FRAME = 0xF7


def contradictions(source: Dataset) -> Iterator[str]:
    """Sentences on the first frame; pixels are read as the header says, if their values allow it."""
    try:
        said = _said_by_the_code(source)
    except UNREADABLE:
        return
    for keyword, value in said.items():
        if value_of(source, keyword) != value:
            yield f"{keyword} is not what the code stream says (PS3.5 8.2): that of the data set counts."


def _said_by_the_code(source: Dataset) -> dict[str, int]:
    syntax = value_of(source.file_meta, "TransferSyntaxUID")
    if syntax not in (*_JPEG_2000, *_JPEG_LS):
        return {}
    pixel_data = source.PixelData
    if isinstance(pixel_data, BufferedIOBase):
        pixel_data.seek(0)
    fragments = generate_fragments(pixel_data)
    next(fragments)  # the offset table
    start = next(fragments, b"")
    if syntax in _JPEG_LS:
        return _said_by_jpeg_ls(start)
    said = get_j2k_parameters(start)
    return {"BitsStored": said["precision"], "PixelRepresentation": int(said["is_signed"])}


def _said_by_jpeg_ls(start: bytes) -> dict[str, int]:
    """The precision, behind the length of its segment; of signs JPEG-LS says nothing."""
    at = 2
    while start[at] == 0xFF:
        if start[at + 1] == _START_OF_FRAME:
            return {"BitsStored": start[at + 4]}
        at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return {}
