"""Transfer syntaxes in which an image may have lost something, and what PS3.3 C.7.6.1.1.5 calls each."""

from pydicom.uid import HTJ2K, JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

#: By transfer syntax, the defined term of Lossy Image Compression Method (0028,2114).
METHODS: dict[UID, str] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}

LOSSY: tuple[UID, ...] = tuple(METHODS)
