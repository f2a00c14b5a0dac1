"""The frames of a stored picture, one at a time: as they were stored, or decoded (PS3.5 8 and A.4)."""

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, JPEGLSLossless, JPEGLSNearLossless, RLELossless

from config.errors import DamagedObject, UnsupportedImage
from dicom_node.deflated import InflatedTooFar, inflated

PIXEL_DATA = Tag("PixelData")
#: Bytes of a word of the value representations whose byte order pydicom leaves as it is.
WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}

#: Bytes of a decoded frame, and of an inflated data set, beyond which neither is taken into memory.
_MOST_BYTES = 1 << 30
_PIECE = 1 << 20
#: Values larger than this are read when they are asked for.
_LARGE_VALUE = 1 << 16
_UNDEFINED = 0xFFFFFFFF
#: pydicom's own choice among these makes a picture of any JPEG-LS, and has one panic that no `except` stops.
_DECODERS = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls", RLELossless: "pydicom"}


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """Pixel data in an open file. Methods raise UnsupportedImage for what cannot be read or decoded."""

    file: BinaryIO
    syntax: UID
    #: Where in the file the value of the pixel data begins, and its bytes; None where it is encapsulated.
    begin: int
    length: int | None
    #: What the header says of the pixels, as pydicom's decoders take it.
    options: Mapping[str, Any]

    @property
    def frames(self) -> int:
        """How many frames the header claims."""
        return int(self.options["number_of_frames"])

    @property
    def bits_allocated(self) -> int:
        """Bits of a sample as it is stored."""
        return int(self.options["bits_allocated"])

    def value(self) -> Iterator[bytes]:
        """The pixel data that are not encapsulated, in pieces, in little endian."""
        assert self.length is not None
        self.file.seek(self.begin)
        left, swap = self.length, self.syntax == ExplicitVRBigEndian and self.bits_allocated == 16
        while piece := self.file.read(min(_PIECE, left)):
            left -= len(piece)
            yield swapped(piece) if swap else piece

    def coded(self, index: int) -> bytes:
        """The code stream of a frame, from 0, as it is stored; of encapsulated pixel data."""
        self.file.seek(self.begin)
        offsets = self.options.get("extended_offsets")
        try:
            return get_frame(self.file, index, extended_offsets=offsets, number_of_frames=self.frames)
        except Exception as error:  # bytes that are no fragments fail in many ways
            raise UnsupportedImage(f"Frame {index + 1} cannot be found in the pixel data (PS3.5 A.4).") from error

    def decoded(self, index: int) -> bytes:
        """The pixels of a frame, from 0, in little endian: as they are stored, or decoded, then in RGB if in colour.

        Frames of one bit a pixel begin at a byte of their own.
        """
        if self.length is None:
            return self.decode(index)[0].tobytes()
        bits = self._bits()
        first = index * bits
        if first + bits > 8 * self.length:
            raise UnsupportedImage(f"The pixel data end before frame {index + 1} does (PS3.5 8.1.1).")
        self.file.seek(self.begin + first // 8)
        data = self.file.read((first % 8 + bits + 7) // 8)
        if first % 8 or bits % 8:
            unpacked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            return np.packbits(unpacked[first % 8 : first % 8 + bits], bitorder="little").tobytes()
        return swapped(data) if self.syntax == ExplicitVRBigEndian and self.bits_allocated == 16 else data

    def decode(self, index: int) -> tuple[NDArray[Any], dict[str, Any]]:
        """The pixels of a frame as an array, and what pydicom says of them; colour as RGB."""
        self._bits()
        self.file.seek(self.begin)
        plugin = _DECODERS.get(self.syntax, "")
        try:
            return get_decoder(self.syntax).as_array(self.file, index=index, decoding_plugin=plugin, **self.options)
        except Exception as error:  # every decoder has errors of its own
            raise UnsupportedImage(f"Frame {index + 1} cannot be decoded from {self.syntax.name}.") from error

    def _bits(self) -> int:
        """Of a decoded frame."""
        try:
            sides = [int(self.options[name]) for name in ("rows", "columns", "samples_per_pixel", "bits_allocated")]
        except (KeyError, TypeError, ValueError) as error:
            raise UnsupportedImage("The header does not say how large the picture is (PS3.3 C.7.6.3).") from error
        bits = math.prod(sides)
        if not 0 < bits <= 8 * _MOST_BYTES:
            raise UnsupportedImage("A frame has no pixels, or too many to be taken into memory.")
        is_halved = self.length is not None and self.options.get("photometric_interpretation") == "YBR_FULL_422"
        return bits // 3 * 2 if is_halved else bits


@contextmanager
def opened(path: Path, *, whole: bool = False) -> Iterator[tuple[Dataset, StoredPicture | None]]:
    """The data set of a part-10 file without its pixel data, and its picture, if it has one.

    whole: with what follows the pixel data, which are passed over; else the data set ends before them.
    Raises UnsupportedImage for a file that cannot be parsed, DamagedObject for one that cannot be read. Large values
    are read when they are asked for, and the file is open until then.
    """
    with open_stored(path) as stored:
        try:
            file = inflated(stored, _MOST_BYTES) or stored
            header = dcmread(file, stop_before_pixels=not whole, defer_size=_LARGE_VALUE)
            place = _pixel_data_within(header) if whole else _pixel_data_next(file, header)
            picture = None if place is None else _picture(file, header, *place)
        except InflatedTooFar as error:
            raise UnsupportedImage("The deflated data set is too large to be taken into memory.") from error
        except Exception as error:  # foreign bytes can do anything to the parser
            raise UnsupportedImage("The data set cannot be parsed.") from error
        yield header, picture


def open_stored(path: Path) -> BinaryIO:
    """Open a file of the store to read it; DamagedObject if it is not there, which may be since a moment ago."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DamagedObject(f"A file cannot be read: {error.strerror}.") from error


def swapped(data: bytes, word: int = 2) -> bytes:
    """Words of so many bytes, with these in the other order."""
    return np.frombuffer(data, f"u{word}").byteswap().tobytes()


def _picture(file: BinaryIO, header: Dataset, begin: int, length: int | None) -> StoredPicture:
    options = as_pixel_options(header, pixel_keyword="PixelData")
    options["pixel_vr"] = "OW" if header.get("BitsAllocated", 16) > 8 else "OB"
    syntax = UID(header.file_meta.TransferSyntaxUID)
    return StoredPicture(file=file, syntax=syntax, begin=begin, length=length, options=options)


def _pixel_data_next(file: BinaryIO, header: Dataset) -> tuple[int, int | None] | None:
    """Where the value of the pixel data begins, if they are the next element, and their bytes."""
    implicit, little = header.original_encoding
    order = "<" if little else ">"
    element = file.read(8 if implicit else 12)
    if len(element) < 8 or Tag(*struct.unpack(f"{order}HH", element[:4])) != PIXEL_DATA:
        return None
    (length,) = struct.unpack(f"{order}L", element[-4:])
    return file.tell(), None if length == _UNDEFINED else length


def _pixel_data_within(header: Dataset) -> tuple[int, int | None] | None:
    """The same of a data set that has been read whole; the pixel data are taken out of it."""
    if PIXEL_DATA not in header:
        return None
    element = header.get_item(PIXEL_DATA, keep_deferred=True)
    assert isinstance(element, RawDataElement)
    del header[PIXEL_DATA]
    return element.value_tell, None if element.length == _UNDEFINED else element.length
