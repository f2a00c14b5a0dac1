"""High-throughput JPEG 2000 (ISO/IEC 15444-15), which OpenJPH writes: no library of the project's does."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL

HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
#: So many that what is left of a picture of the tests is at most 64 pixels a side (PS3.5 A.4), and more than 1.
_DECOMPOSITIONS = 3
#: Where a code stream of one component says whether its values have a sign.
_SIGN = 42
_MAIN_HEADER, _TILE_LENGTHS, _TILE_PART = b"\xff\x4f", b"\xff\x55", b"\xff\x90"


def compress(dataset: Dataset, transfer_syntax: str) -> None:
    """Put the pixels of a grey data set into a code stream a frame, and name the transfer syntax."""
    stored = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    bits = dataset.BitsStored
    if dataset.PixelRepresentation:
        stored = (stored + 2 ** (bits - 1)).astype("<u1" if bits <= 8 else "<u2")
    streams = [_code_stream(frame, bits, lossless=transfer_syntax != HTJ2K) for frame in stored]
    if dataset.PixelRepresentation:
        streams = [_signed(stream) for stream in streams]
    if transfer_syntax == HTJ2KLosslessRPCL:
        streams = [_with_the_length_of_its_tile(stream) for stream in streams]
    dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.LossyImageCompression = "01" if transfer_syntax == HTJ2K else "00"


def _code_stream(frame: np.ndarray, bits: int, *, lossless: bool) -> bytes:
    """One tile, in the order RPCL; what loses something does so in steps of a grey level."""
    rows, columns = frame.shape
    how = [
        *(("-reversible", "true") if lossless else ("-qstep", str(2**-bits))),
        *("-prog_order", "RPCL", "-num_decomps", str(_DECOMPOSITIONS)),
        *("-num_comps", "1", "-downsamp", "{1,1}", "-dims", f"{{{columns},{rows}}}"),
        *("-bit_depth", str(bits), "-signed", "false"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        plain, coded = Path(folder, "frame.yuv"), Path(folder, "frame.j2c")
        plain.write_bytes(frame.tobytes())
        subprocess.run(["ojph_compress", "-i", plain, "-o", coded, *how], check=True, capture_output=True)
        return coded.read_bytes()


def _signed(stream: bytes) -> bytes:
    """The stream as one of signed values, which ojph_compress 0.9 cannot write.

    Of unsigned values half of their range is taken away before they are coded, of signed ones nothing (ISO/IEC
    15444-1 G.1), so that only the header differs (Ssiz, A.5.1).
    """
    return stream[:_SIGN] + bytes([stream[_SIGN] | 0x80]) + stream[_SIGN + 1 :]


def _with_the_length_of_its_tile(stream: bytes) -> bytes:
    """The stream with the marker segment TLM, which the RPCL options ask for (ISO/IEC 15444-1 A.7.1)."""
    assert stream.startswith(_MAIN_HEADER)
    at = stream.index(_TILE_PART)
    length = stream[at + 6 : at + 10]
    # Its length, its number, no index and four bytes a tile-part, of which there is one.
    return stream[:at] + _TILE_LENGTHS + b"\x00\x08\x00\x40" + length + stream[at:]
