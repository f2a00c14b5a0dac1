"""What the lossless transfer syntaxes bring: size and time, on results of the product.

    python -m benchmarks.codecs RESULT.dcm...

Each file holds a picture that Fullfield made, as `fullfield reconstruct` writes it. Times are CPU time of one core.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

SYNTAXES = (JPEGLSLossless, JPEG2000Lossless, RLELossless)


def measure(paths: Sequence[Path]) -> str:
    """A table of ratio, and megabytes a second of uncompressed pixels to encode and to decode."""
    lines = ["| result | syntax | ratio | encode, MB/s | decode, MB/s |", "| --- | --- | --- | --- | --- |"]
    for path in paths:
        dataset = dcmread(path)
        for syntax in SYNTAXES:
            ratio, encode, decode = _of(dataset, syntax)
            lines.append(f"| {path.stem} | {syntax.name} | {ratio:.2f} | {encode:.0f} | {decode:.0f} |")
    return "\n".join(lines)


def _of(dataset: Dataset, syntax: str) -> tuple[float, float, float]:
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    how = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": dataset.PixelRepresentation,
        "photometric_interpretation": dataset.PhotometricInterpretation,
        "pixel_keyword": "PixelData",
    }
    began = time.process_time()
    encoded = [get_encoder(syntax).encode(frame, **how) for frame in frames]
    between = time.process_time()
    wrapped = [encapsulate([code]) for code in encoded]
    decoded = [get_decoder(syntax).as_array(code, index=0, raw=True, **how)[0] for code in wrapped]
    ended = time.process_time()
    if not np.array_equal(np.stack(decoded), frames):
        raise ValueError(f"{syntax} changed the pixels.")
    megabytes = frames.nbytes / 1e6
    size = sum(len(code) for code in encoded)
    return frames.nbytes / size, megabytes / (between - began), megabytes / (ended - between)


if __name__ == "__main__":
    print(measure([Path(name) for name in sys.argv[1:]]))
