"""Pictures for people: what a request says of how they are to look (PS3.18 8.3.5 and 10.4.1.1.3)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from config.errors import UnsupportedImage
from dicom_node.network.dicomweb.media_types import JPEG, PNG, MediaType, matches
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.sending import Part, related
from dicom_node.stored_picture import opened
from dicom_node.view import Function, View, Window

#: Makes a picture of a frame, from 0, of a file; raises UnsupportedImage.
Render = Callable[[Path, int, View], bytes]

#: Pixels of a side of a picture that is asked for, at most, and of a thumbnail that is asked for without a size.
_LARGEST, _THUMBNAIL = 8192, 128
_FUNCTIONS: dict[str, Function] = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


def read_view(query: Mapping[str, str], accepted: Sequence[MediaType], *, thumbnail: bool) -> tuple[View, bool]:
    """How a picture is to look, and whether it is to come in a message of several parts; Problem (400, 406)."""
    for range_ in accepted:
        for media_type in (JPEG, PNG):
            if matches(range_.part, media_type):
                size, region = _viewport(query.get("viewport", ""))
                view = View(
                    media_type=media_type,  # type: ignore[arg-type]
                    size=size or ((_THUMBNAIL, _THUMBNAIL) if thumbnail else None),
                    region=region,
                    window=_window(query.get("window", "")),
                    quality=round(_number("quality", query.get("quality", "90"), 1, 100)),
                )
                return view, range_.has_parts and range_.name != "*/*"
    raise Problem(406, f"Pictures are to be had as {JPEG} or {PNG}.")


def pictures_of(
    render: Render, frames: Sequence[tuple[Path, int]], view: View, *, has_parts: bool
) -> tuple[Iterator[bytes], str]:
    """The pieces of an answer with these frames as pictures, and its media type; Problem (406)."""

    def pictures() -> Iterator[bytes]:
        for path, frame in frames:
            try:
                yield render(path, frame, view)
            except UnsupportedImage as error:
                raise Problem(406, str(error)) from error

    if has_parts or len(frames) > 1:
        return related((Part(media_type=view.media_type, content=[one]) for one in pictures()), view.media_type)
    return pictures(), view.media_type


def representative_frame(path: Path) -> int | None:
    """The frame that stands for an object, from 0; None for one without pixels."""
    with opened(path) as (header, picture):
        if picture is None:
            return None
        try:
            named = int(header.get("RepresentativeFrameNumber") or 1)
        except (TypeError, ValueError):
            named = 1
        return named - 1 if 1 <= named <= picture.frames else 0


def frame_count(path: Path) -> int:
    """How many frames an object has; none without pixels."""
    with opened(path) as (_, picture):
        return 0 if picture is None else picture.frames


def _viewport(text: str) -> tuple[tuple[int, int] | None, tuple[int, int, int, int] | None]:
    """Width and height of the picture, and the part of the image that is shown, if one is named (PS3.18 8.3.5.1.3)."""
    if not text:
        return None, None
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise Problem(400, "viewport is to be WIDTH,HEIGHT or WIDTH,HEIGHT,LEFT,TOP,WIDTH,HEIGHT.")
    size = (round(_number("viewport", parts[0], 1, _LARGEST)), round(_number("viewport", parts[1], 1, _LARGEST)))
    if len(parts) == 2:
        return size, None
    left, top, columns, rows = (round(_number("viewport", part, 0, 65535)) for part in parts[2:])
    return size, (left, top, columns, rows)


def _window(text: str) -> Window | None:
    """Centre, width and function (PS3.18 8.3.5.1.4)."""
    if not text:
        return None
    parts = text.split(",")
    function = _FUNCTIONS.get(parts[2].lower()) if len(parts) == 3 else "LINEAR" if len(parts) == 2 else None
    if function is None:
        raise Problem(400, "window is to be CENTRE,WIDTH,FUNCTION; functions are linear, linear-exact and sigmoid.")
    least = 1 if function == "LINEAR" else 1e-6
    centre, width = _number("window", parts[0], -1e9, 1e9), _number("window", parts[1], least, 1e9)
    return Window(centre=centre, width=width, function=function)


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise Problem(400, f"{name} is to hold numbers from {least:g} to {most:g}.")
    return number
