"""Cines of any length, written frame by frame."""

import struct
from pathlib import Path

from pydicom import dcmwrite

from tests.factory import Box, centre, draw, xa


def write_cine(path: Path, *, frames: int, side: int, moving: bool = False) -> Path:
    """A collimated cine of 12 bits in 16, explicit little endian; four drawn frames over and over.

    moving: the blades go from side to side, and no attribute tells where they are.
    """
    left, top, right, bottom = centre(side, side)
    steps = [0, side // 16, side // 8, side // 16] if moving else [0] * 4
    boxes = [Box(left + step, top, right + step, bottom) for step in steps]
    drawn = draw(boxes, 4, side, side, 12, False, "MONOCHROME2", 0).astype("<u2")
    header = xa(stored=drawn[:1], NumberOfFrames=frames, attributes_say="nothing" if moving else "both")
    del header.PixelData
    dcmwrite(path, header, enforce_file_format=True)
    with path.open("ab") as file:
        # Explicit VR, 32-bit length (PS3.5 7.1.2).
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * side * side * 2))
        for frame in range(frames):
            file.write(drawn[frame % len(drawn)].tobytes())
    return path
