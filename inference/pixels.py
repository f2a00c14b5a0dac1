"""Pixel data to arrays: every check comes before the memory, or the disk, is taken that the header asks for."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END, BufferedIOBase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_fragments, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from config.errors import UnsupportedImage
from inference.bits import within_its_bits
from inference.grey_mapping import GreyMapping, grey_mapping
from inference.header import UNREADABLE, value_of
from inference.jpeg_scan import with_its_scan_header_mended
from inference.on_disk import array_on_disk, let_go

__all__ = ["Cine", "GreyMapping", "pixel_data_length", "read_cine"]

#: Rows and columns below which there is no picture to speak of.
SMALLEST_SIDE = 16
#: Where PS3.3 defines an attribute that is not of the Image Pixel module.
_SECTIONS = {"NumberOfFrames": "C.7.6.6"}
#: Bytes that a pixel takes up on the disk at most on its way from the object to its results, and, of the frames that
#: are worked on together, in memory.
_BYTES_ON_DISK, _BYTES_IN_MEMORY = 18, 128
#: The marker End Of Image (ISO/IEC 10918-1 B.1.1.3, ISO/IEC 14495-1 C.1.1), and the syntaxes whose frames have it.
_END_OF_IMAGE = b"\xff\xd9"
_ENDING_WITH_A_MARKER = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
#: Decoders that find more faults than those which pydicom falls back on when they have found one: libjpeg makes
#: a picture of any JPEG-LS, and pylibjpeg-rle panics, which no `except Exception` stops.
_STRICT_DECODERS = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls", RLELossless: "pydicom"}


@dataclass(frozen=True, kw_only=True)
class Cine:
    """Decoded pixels, and what their values mean.

    stored: (n, h, w) integers as they are in the object, unused high bits included; see inference/on_disk.py.
    """

    stored: NDArray[np.integer]
    mapping: GreyMapping


def read_cine(dataset: Dataset) -> Cine:
    """Decode a grey single-frame or multi-frame image (PS3.3 C.7.6.3), compressed or not.

    Raises UnsupportedImage, with a sentence that says what is wrong and who can mend it.
    """
    _check_header(dataset)
    syntax = _transfer_syntax(dataset)
    frames = _frame_count(dataset)
    if syntax.is_encapsulated:
        _check_fragments(dataset, frames)
    else:
        _check_length(dataset, frames)
    mapping = grey_mapping(dataset)
    return Cine(stored=_decode(dataset, syntax, frames, mapping.dtype), mapping=mapping)


def _check_header(dataset: Dataset) -> None:
    """Refuse what is no grey integer picture of 8 to 16 bits (PS3.3 C.7.6.3.1)."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnsupportedImage(
            "The pixels are FloatPixelData or DoubleFloatPixelData (PS3.3 C.7.6.24, C.7.6.25); only integer PixelData "
            "are reconstructed."
        )
    if value_of(dataset, "PixelData") is None:
        raise UnsupportedImage("The object has no PixelData (PS3.3 C.7.6.3); the sender must send the image itself.")
    photometric = value_of(dataset, "PhotometricInterpretation")
    if _integer(dataset, "SamplesPerPixel") != 1:
        raise UnsupportedImage(
            "The image is in color by SamplesPerPixel (PS3.3 C.7.6.3.1.1); only grey images are reconstructed."
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedImage(
            f"PhotometricInterpretation is {photometric or 'missing'} (PS3.3 C.7.6.3.1.2); only MONOCHROME1 and "
            "MONOCHROME2 are reconstructed."
        )
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    if rows < SMALLEST_SIDE or columns < SMALLEST_SIDE:
        raise UnsupportedImage(
            f"A picture of {columns} x {rows} pixels, by Columns and Rows (PS3.3 C.7.6.3), is not supported; "
            f"{SMALLEST_SIDE} a side are."
        )
    allocated, stored = _integer(dataset, "BitsAllocated"), _integer(dataset, "BitsStored")
    high = _integer(dataset, "HighBit", default=stored - 1)
    if allocated not in (8, 16) or not 8 <= stored <= allocated or high != stored - 1:
        raise UnsupportedImage(
            f"BitsStored is {stored}, BitsAllocated {allocated}, HighBit {high} (PS3.5 8.1.1); 8 to 16 bits from the "
            "lowest up are reconstructed."
        )
    if _integer(dataset, "PixelRepresentation") not in (0, 1):
        raise UnsupportedImage(
            "PixelRepresentation is neither 0 nor 1 (PS3.3 C.7.6.3); the modality's vendor mends its header."
        )


def _transfer_syntax(dataset: Dataset) -> UID:
    """The transfer syntax, if pixels can be decoded from it here."""
    meta = getattr(dataset, "file_meta", None)
    syntax = value_of(meta, "TransferSyntaxUID") if meta is not None else None
    if not isinstance(syntax, str):
        raise UnsupportedImage(
            "TransferSyntaxUID is missing or not one UID (PS3.10 7.1); the sender must write it in the header."
        )
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        raise UnsupportedImage(
            f"PixelData in {UID(syntax).name}, by TransferSyntaxUID (PS3.5 10), cannot be decoded; let the modality "
            "send another transfer syntax."
        ) from error
    if not decoder.is_available:
        raise UnsupportedImage(
            f"No decoder for {UID(syntax).name}, by TransferSyntaxUID (PS3.5 10), is installed; the administrator "
            "installs pylibjpeg's plugins."
        )
    return UID(syntax)


def _frame_count(dataset: Dataset) -> int:
    frames = _integer(dataset, "NumberOfFrames", default=1)
    if frames < 1:
        raise UnsupportedImage(f"NumberOfFrames is {frames} (PS3.3 C.7.6.6); the modality's vendor mends its header.")
    return frames


def _check_length(dataset: Dataset, frames: int) -> None:
    """Uncompressed pixel data must hold all frames, and less than one more (some modalities pad)."""
    frame_bytes = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    held = pixel_data_length(dataset) // frame_bytes
    if held < frames:
        raise UnsupportedImage(
            f"PixelData end within frame {held + 1} of {frames}, by Rows, Columns, BitsAllocated and NumberOfFrames "
            "(PS3.5 8.1.1): the object is truncated or its header is wrong; send it again."
        )
    if held > frames:
        raise UnsupportedImage(
            f"PixelData hold {held} frames by Rows, Columns and BitsAllocated, but NumberOfFrames is {frames} "
            "(PS3.3 C.7.6.6); the modality's vendor mends its header."
        )


def _check_fragments(dataset: Dataset, frames: int) -> None:
    """Each compressed frame has at least one fragment of its own (PS3.5 A.4)."""
    try:
        fragments = sum(1 for _ in generate_fragments(_from_its_start(dataset))) - 1  # the first is the offset table
    except Exception as error:  # bytes that are no fragments fail in many ways
        raise UnsupportedImage(
            "The compressed PixelData are broken or truncated (PS3.5 A.4); send the object again."
        ) from error
    if fragments < frames:
        raise UnsupportedImage(
            f"NumberOfFrames is {frames} (PS3.3 C.7.6.6) but the compressed PixelData hold {max(fragments, 0)}: the "
            "object is truncated or its header is wrong; send it again."
        )


def _decode(dataset: Dataset, syntax: UID, frames: int, dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    """All frames, (n, h, w); room is taken only once the first frame has been decoded."""
    shape = (int(dataset.Rows), int(dataset.Columns))
    decoded = _decoded_frames(dataset, syntax, frames)
    stored: NDArray[np.integer] | None = None
    for index in range(frames):
        try:
            frame = next(decoded)
        except StopIteration as error:
            raise UnsupportedImage(
                f"PixelData end after frame {index} of {frames}, by NumberOfFrames (PS3.3 C.7.6.6): the object is "
                "truncated; send it again."
            ) from error
        except UnsupportedImage as error:
            raise UnsupportedImage(f"Frame {index + 1} of {frames} is not as its header says: {error}") from error
        except Exception as error:  # every decoder has errors of its own
            raise UnsupportedImage(
                f"Frame {index + 1} of {frames} cannot be decoded from {syntax.name}: PixelData are corrupt "
                "(PS3.5 8.2); send the object again."
            ) from error
        if frame.shape != shape:
            raise UnsupportedImage(
                f"Frame {index + 1} of {frames} is not of the size that Rows and Columns say (PS3.3 C.7.6.3); send the "
                "object again."
            )
        if stored is None:
            stored = _room((frames, *shape), dtype)
        stored[index] = frame.astype(dtype, copy=False)
        let_go(stored)
    assert stored is not None
    return stored


def _decoded_frames(dataset: Dataset, syntax: UID, frames: int) -> Iterator[NDArray[np.integer]]:
    """One frame after the other, as stored: no color conversion, no scaling.

    In a code stream there is nothing but the sign above the stored bits; elsewhere these bits may hold overlays.
    Of a frame that is cut off libjpeg makes up the rest and CharLS looks for it for a minute, so that its end is
    looked for first.
    """
    decoder, plugin = get_decoder(syntax), _STRICT_DECODERS.get(syntax, "")
    if not syntax.is_encapsulated:
        _from_its_start(dataset)
        yield from (frame for frame, _ in decoder.iter_array(dataset, raw=True, correct_unused_bits=False))
        return
    options: dict[str, Any] = as_pixel_options(dataset, pixel_keyword="PixelData", pixel_vr="OB")
    offsets = options.pop("extended_offsets", None)
    options |= {"number_of_frames": 1, "correct_unused_bits": False}
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    for coded in generate_frames(_from_its_start(dataset), number_of_frames=frames, extended_offsets=offsets):
        if syntax in _ENDING_WITH_A_MARKER and not coded.rstrip(b"\0\xff").endswith(_END_OF_IMAGE):
            raise ValueError("The frame has no end.")
        if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
            coded = with_its_scan_header_mended(coded)
        frame = next(decoder.iter_array(encapsulate([coded]), raw=True, decoding_plugin=plugin, **options))[0]
        if syntax != RLELossless:
            frame = within_its_bits(frame, bits, signed=signed, lossy=syntax in _LOSSY)
        yield frame


def pixel_data_length(dataset: Dataset) -> int:
    """Bytes of the pixel data, which are there."""
    pixel_data = dataset.PixelData
    return pixel_data.seek(0, SEEK_END) if isinstance(pixel_data, BufferedIOBase) else len(pixel_data)


def _from_its_start(dataset: Dataset) -> Any:
    """The pixel data: bytes, or a file to read them from."""
    pixel_data = dataset.PixelData
    if isinstance(pixel_data, BufferedIOBase):
        pixel_data.seek(0)
    return pixel_data


def _room(shape: tuple[int, int, int], dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    """Room for all frames; a few compressed bytes can stand for more than a machine has."""
    frames, rows, columns = shape
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(tempfile.gettempdir()).total
    for kind, needed, there in (
        ("memory", rows * columns * _BYTES_IN_MEMORY, memory),
        ("disk", frames * rows * columns * _BYTES_ON_DISK, disk),
    ):
        if needed > there:
            raise UnsupportedImage(
                f"The image needs {needed / 2**30:.0f} GiB of {kind}, more than this machine has; the administrator "
                "lets a larger machine do it."
            )
    return array_on_disk(shape, dtype)


def _integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """A whole number of the header; raises UnsupportedImage where it is missing or no number."""
    try:
        value = dataset.get(keyword)
        if value is None and default is not None:
            return default
        if int(value) != value:
            raise ValueError
        return int(value)
    except UNREADABLE as error:
        raise UnsupportedImage(
            f"{keyword} is missing or not a whole number (PS3.3 {_SECTIONS.get(keyword, 'C.7.6.3')}); the modality's "
            "vendor mends its header."
        ) from error
