"""When the frames of a cine were taken: the Cine and Multi-frame modules (PS3.3 C.7.6.5, C.7.6.6)."""

from datetime import datetime
from itertools import pairwise

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DT, DSfloat

from dicom_node.objects.source_header import copy_attributes, read_value
from inference.header import items, numbers, value_of

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


def is_timed(source: Dataset, frames: int) -> bool:
    """Whether the source tells when its frames were taken."""
    return _frame_time_vector(source, frames) is not None or _frame_time(source) is not None


def carry_rate(source: Dataset, result: Dataset) -> None:
    """Keep the pace of a cine whose frames become objects of their own."""
    copy_attributes(source, result, _RATES)


def _frame_time(source: Dataset) -> float | None:
    """Milliseconds between frames, or None."""
    given = numbers(source, "FrameTime")
    if len(given) == 1 and given[0] > 0:
        return given[0]
    if _frame_time_vector(source, int(source.get("NumberOfFrames") or 1)) is not None:
        return None
    rates = [rate for keyword in _RATES for rate in numbers(source, keyword)]
    return next((1000 / rate for rate in rates if rate > 0), None)


def _frame_time_vector(source: Dataset, frames: int) -> list[DSfloat] | None:
    """Milliseconds since the frame before, for each frame, the first 0; or None."""
    steps = numbers(source, "FrameTimeVector") or _steps_of_frames(source)
    if len(steps) != frames or frames < 2:
        return None
    return [DSfloat(step, auto_format=True) for step in steps]


def _steps_of_frames(source: Dataset) -> list[float]:
    """The same from the Frame Content macro of enhanced objects (C.7.6.16.2.2); empty if a frame lacks it."""
    moments: list[datetime] = []
    for item in items(source, "PerFrameFunctionalGroupsSequence"):
        content = items(item, "FrameContentSequence")
        moment = _moment(content[0]) if content else None
        if moment is None:
            return []
        moments.append(moment)
    if not moments or len({moment.tzinfo is None for moment in moments}) > 1:
        return []
    return [0.0, *((after - before).total_seconds() * 1000 for before, after in pairwise(moments))]


def _moment(content: Dataset) -> datetime | None:
    try:
        return DT(str(value_of(content, "FrameReferenceDateTime") or ""))
    except ValueError:
        return None


def _points_at(source: Dataset, keyword: str) -> bool:
    pointer = read_value(source, "FrameIncrementPointer")
    pointers = pointer if isinstance(pointer, MultiValue) else [pointer]
    return tag_for_keyword(keyword) in pointers


def _point(result: Dataset, keyword: str, value: object) -> None:
    setattr(result, keyword, value)
    result.FrameIncrementPointer = Tag(tag_for_keyword(keyword) or 0)
