"""Deflated data sets (PS3.5 A.5), inflated no further than is asked: a kilobyte may stand for a megabyte."""

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

_PREAMBLE = b"\0" * 128 + b"DICM"
#: Bytes that are read at once.
_PIECE = 1 << 20


class InflatedTooFar(Exception):
    """There is more in the data set than was asked for."""


def inflated(
    file: Path | BinaryIO, most_bytes: int, *, whole: bool = True, into: Callable[[], BinaryIO] = BytesIO
) -> BinaryIO | None:
    """A deflated part-10 file as one in explicit little endian; None where it is not deflated.

    into: makes an empty file for it; without it that is in memory.
    The position in the file is as before. Raises InflatedTooFar when it is to be whole and is larger than
    `most_bytes`, else it ends there. Raises ValueError for a stream that is broken or cut off, and what pydicom
    raises for a file that is none.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return inflated(opened, most_bytes, whole=whole, into=into)
    start = file.tell()
    try:
        read_preamble(file, force=False)
        meta = _read_file_meta_info(file)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return None
        return _inflate(file, meta, most_bytes, into(), whole=whole)
    finally:
        file.seek(start)


def _inflate(file: BinaryIO, meta: FileMetaDataset, most_bytes: int, plain: BinaryIO, *, whole: bool) -> BinaryIO:
    buffer = DicomBytesIO()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_file_meta_info(buffer, meta, enforce_standard=False)
    plain.write(_PREAMBLE + buffer.getvalue())
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    left = most_bytes
    while not stream.eof:
        piece = stream.unconsumed_tail or file.read(_PIECE)
        if not piece:
            raise ValueError("The deflated data set is cut off.")
        if left == 0:
            if whole:
                raise InflatedTooFar
            break
        try:
            left -= plain.write(stream.decompress(piece, min(left, 16 * _PIECE)))
        except zlib.error as error:
            raise ValueError("The deflated data set is broken.") from error
    plain.seek(0)
    return plain
