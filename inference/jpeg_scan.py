"""Sequential JPEG whose scan header has other values than the only ones that there are (ISO/IEC 10918-1 B.2.3).

In baseline and extended sequential JPEG a scan holds coefficients 0 to 63, at once. Some encoders write 0 to 0;
dcmtk and many a viewer take no notice, libjpeg refuses the frame.
"""

#: Start Of Image, Start Of Frame of the sequential modes with Huffman coding, Start Of Scan (table B.1).
_IMAGE, _SEQUENTIAL, _SCAN = 0xD8, (0xC0, 0xC1), 0xDA
#: Start and end of spectral selection, and successive approximation.
_THE_ONLY_ONES = b"\x00\x3f\x00"


def with_its_scan_header_mended(frame: bytes) -> bytes:
    """The frame as it has to be; one that is no sequential JPEG, or needs no mending, as it is."""
    at, sequential = 2, False
    if frame[:2] != bytes((0xFF, _IMAGE)):
        return frame
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        sequential = sequential or marker in _SEQUENTIAL
        end = at + 2 + length
        if marker == _SCAN:
            if not sequential or length < 6 or frame[end - 3 : end] == _THE_ONLY_ONES:
                return frame
            return frame[: end - 3] + _THE_ONLY_ONES + frame[end:]
        at = end
    return frame
