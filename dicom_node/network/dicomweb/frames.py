"""Frames and other bulk data: pixels decoded, or in the code streams that are stored (PS3.18 8.7.3.3 and 10.4)."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.tag import Tag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.network.dicomweb.media_types import OCTETS, MediaType, matches
from dicom_node.network.dicomweb.metadata import is_bulk
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.sending import Part, related
from dicom_node.stored_picture import PIXEL_DATA, WORDS, StoredPicture, opened, swapped

#: The media type of a code stream, by transfer syntax (PS3.18 table 8.7.3-5).
_CODED: dict[UID, str] = {
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    RLELossless: "image/dicom-rle",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
}
_PLAIN = f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
_TAG = re.compile("[0-9a-fA-F]{8}")
_LIST = re.compile(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*")
#: Frames that one request may name.
_MOST = 10_000


def read_frame_list(text: str) -> list[int]:
    """The frames of a path, such as `1,2,5`, from 0; Problem (400)."""
    if not _LIST.fullmatch(text) or text.count(",") >= _MOST:
        raise Problem(400, "The path names no frames: it is to end in their numbers, from 1, with commas between them.")
    return [int(number) - 1 for number in text.split(",")]


def frames_of(path: Path, wanted: Sequence[int], accepted: Sequence[MediaType]) -> tuple[Iterator[bytes], str]:
    """The pieces of an answer with these frames, and its media type; Problem (404, 406)."""
    with opened(path) as (_, picture):
        stored = _checked(picture, wanted)
        is_coded, has_parts = _form(stored, accepted, alone=len(wanted) == 1)
    media_type = _coded_type(stored) if is_coded else _PLAIN
    if has_parts:
        parts = (Part(media_type=media_type, content=[frame]) for frame in _frames(path, wanted, is_coded=is_coded))
        return related(parts, media_type.partition(";")[0])
    return _frames(path, wanted, is_coded=is_coded), media_type


def bulk_data_of(path: Path, named: str, accepted: Sequence[MediaType]) -> tuple[Iterator[bytes], str]:
    """The pieces of an answer with the value of an attribute, and its media type; Problem (400, 404, 406).

    named: its tag. Pixel data come decoded in one part, or each code stream in a part of its own.
    """
    if not _TAG.fullmatch(named):
        raise Problem(400, "The path names no attribute: it is to end in the eight digits of a tag.")
    tag = Tag(int(named, 16))
    with opened(path) as (header, picture):
        if tag == PIXEL_DATA:
            stored = _checked(picture, [])
            every = range(stored.frames)
            is_coded, has_parts = _form(stored, accepted, alone=False)
            if is_coded:
                return frames_of(path, every, accepted)
            pieces = _frames(path, every, is_coded=False) if stored.length is None else _pixel_data(path)
        else:
            if tag not in header or not is_bulk(header[tag]):
                raise Problem(404, "The object has no bulk data at this address.")
            has_parts = _takes_octets(accepted).has_parts
            value, size = bytes(header[tag].value), WORDS.get(header[tag].VR)
            big = header.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
            pieces = iter([swapped(value, size) if big and size else value])
    if has_parts:
        return related(iter([Part(media_type=_PLAIN, content=pieces)]), OCTETS)
    return pieces, _PLAIN


def _checked(picture: StoredPicture | None, wanted: Sequence[int]) -> StoredPicture:
    if picture is None:
        raise Problem(404, "The object has no pixel data.")
    if wanted and max(wanted) >= picture.frames:
        raise Problem(404, f"The object has {picture.frames} frames, and one beyond them is asked for.")
    return picture


def _frames(path: Path, wanted: Sequence[int], *, is_coded: bool) -> Iterator[bytes]:
    with opened(path) as (_, picture):
        assert picture is not None
        for index in wanted:
            yield picture.coded(index) if is_coded else picture.decoded(index)


def _pixel_data(path: Path) -> Iterator[bytes]:
    with opened(path) as (_, picture):
        assert picture is not None
        yield from picture.value()


def _form(picture: StoredPicture, accepted: Sequence[MediaType], *, alone: bool) -> tuple[bool, bool]:
    """Whether the code streams as stored are wanted most, or the pixels decoded; and whether in several parts.

    Who accepts anything is given pixels, unless any transfer syntax is named too: not all clients look at what a part
    says it is.
    """
    for range_ in accepted:
        if not (range_.has_parts or range_.part == OCTETS or alone):
            continue
        named = range_.transfer_syntax
        if picture.length is None and matches(range_.part, _CODED.get(picture.syntax, "")):
            is_image = range_.part.startswith("image/")
            if named in ("*", picture.syntax) or (is_image and not named):
                return True, range_.has_parts
        if matches(range_.part, OCTETS) and named in ("", "*", ExplicitVRLittleEndian):
            return False, range_.has_parts
    stored = f" or {_coded_type(picture)}" if picture.length is None else ""
    raise Problem(406, f"These pixels are to be had as {_PLAIN}{stored}, in multipart/related.")


def _coded_type(picture: StoredPicture) -> str:
    return f"{_CODED.get(picture.syntax, OCTETS)}; transfer-syntax={picture.syntax}"


def _takes_octets(accepted: Sequence[MediaType]) -> MediaType:
    for range_ in accepted:
        if matches(range_.part, OCTETS):
            return range_
    raise Problem(406, f"Bulk data are to be had as {OCTETS}, alone or in multipart/related.")
