"""When the frames of a cine were taken: the Cine and Multi-frame modules (PS3.3 C.7.6.5, C.7.6.6)."""

from datetime import datetime
from itertools import pairwise

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DT, DSfloat

from dicom_node.objects.source_header import copy_attributes, read_value

_CINE = (
    "StartTrim",
    "StopTrim",
    "RecommendedDisplayFrameRate",
    "CineRate",
    "EffectiveDuration",
    "FrameDelay",
    "ActualFrameDuration",
    "PreferredPlaybackSequencing",
    "RepresentativeFrameNumber",
)
_RATES = ("RecommendedDisplayFrameRate", "CineRate")


def carry_timing(source: Dataset, result: Dataset, frames: int) -> None:
    """Give a multi-frame result the number of its frames and the timing of its source.

    The source's own pointer wins, then whichever of Frame Time and Frame Time Vector there is, then what
    enhanced objects say of each frame, then a frame rate. Without any the frames are numbered as pages, which
    says nothing of time. A single frame has no increment to point at (C.8.6.3).
    """
    copy_attributes(source, result, _CINE)
    result.NumberOfFrames = frames
    if frames == 1:
        return
    vector = _frame_time_vector(source, frames)
    frame_time = _frame_time(source)
    if vector is not None and (frame_time is None or _points_at(source, "FrameTimeVector")):
        _point(result, "FrameTimeVector", vector)
    elif frame_time is not None:
        _point(result, "FrameTime", DSfloat(frame_time, auto_format=True))
    else:
        _point(result, "PageNumberVector", list(range(1, frames + 1)))


def carry_rate(source: Dataset, result: Dataset) -> None:
    """Keep the pace of a cine whose frames become objects of their own."""
    copy_attributes(source, result, _RATES)


def _frame_time(source: Dataset) -> float | None:
    """Milliseconds between frames, or None."""
    given = read_value(source, "FrameTime")
    if given is not None and not isinstance(given, MultiValue) and float(given) > 0:
        return float(given)
    if _frame_time_vector(source, int(source.get("NumberOfFrames") or 1)) is not None:
        return None
    rates = [read_value(source, keyword) for keyword in _RATES]
    return next((1000 / float(rate) for rate in rates if rate and float(rate) > 0), None)


def _frame_time_vector(source: Dataset, frames: int) -> list[DSfloat] | None:
    """Milliseconds since the frame before, for each frame, the first 0; or None."""
    given = read_value(source, "FrameTimeVector")
    steps = [float(step) for step in given] if isinstance(given, MultiValue) else _steps_of_frames(source)
    if len(steps) != frames or frames < 2:
        return None
    return [DSfloat(step, auto_format=True) for step in steps]


def _steps_of_frames(source: Dataset) -> list[float]:
    """The same from the Frame Content macro of enhanced objects (C.7.6.16.2.2); empty if a frame lacks it."""
    moments: list[datetime] = []
    for item in source.get("PerFrameFunctionalGroupsSequence") or ():
        content = item.get("FrameContentSequence")
        moment = content[0].get("FrameReferenceDateTime") if content else None
        if not moment:
            return []
        moments.append(DT(str(moment)))
    if not moments:
        return []
    return [0.0, *((after - before).total_seconds() * 1000 for before, after in pairwise(moments))]


def _points_at(source: Dataset, keyword: str) -> bool:
    pointer = read_value(source, "FrameIncrementPointer")
    pointers = pointer if isinstance(pointer, MultiValue) else [pointer]
    return tag_for_keyword(keyword) in pointers


def _point(result: Dataset, keyword: str, value: object) -> None:
    setattr(result, keyword, value)
    result.FrameIncrementPointer = Tag(tag_for_keyword(keyword) or 0)
