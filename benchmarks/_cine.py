"""Cines of any length, written frame by frame."""

import struct
from pathlib import Path

from pydicom import dcmwrite

from tests.factory import centre, draw, xa


def write_cine(path: Path, *, frames: int, side: int) -> Path:
    """A collimated cine of 12 bits in 16, explicit little endian; four drawn frames over and over."""
    drawn = draw([centre(side, side)] * 4, 4, side, side, 12, False, "MONOCHROME2", 0).astype("<u2")
    header = xa(stored=drawn[:1], NumberOfFrames=frames)
    del header.PixelData
    dcmwrite(path, header, enforce_file_format=True)
    with path.open("ab") as file:
        # Explicit VR, 32-bit length (PS3.5 7.1.2).
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * side * side * 2))
        for frame in range(frames):
            file.write(drawn[frame % len(drawn)].tobytes())
    return path
