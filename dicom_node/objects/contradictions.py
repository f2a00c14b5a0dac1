"""Where the attributes of a source contradict each other, or a rule of the standard, and what then counts."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.objects.required_attributes import frame_count
from inference.header import items, numbers, value_of


def contradictions(source: Dataset) -> Iterator[str]:
    """Sentences on the file meta information, the frames and the windows."""
    yield from _of_the_file(source)
    yield from _of_frames(source)
    for voi in _windows(source):
        if said := [*_of_a_window(voi)]:
            yield from said
            return  # The groups of a thousand frames say it a thousand times.


def _of_the_file(source: Dataset) -> Iterator[str]:
    meta = getattr(source, "file_meta", None) or Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        in_file = f"MediaStorage{keyword}"
        named = value_of(meta, in_file)
        if named is not None and named != value_of(source, keyword):
            yield f"{in_file} is not {keyword} (PS3.10 7.1): that of the data set counts."


def _of_frames(source: Dataset) -> Iterator[str]:
    frames = frame_count(source)
    if frames > 1 and value_of(source, "SOPClassUID") == SecondaryCaptureImageStorage:
        yield "NumberOfFrames is above 1 in a class of single frames (PS3.3 A.8.1): all of them are reconstructed."
    if _count(source, "FrameTimeVector") not in (0, frames):
        yield "FrameTimeVector does not have a value for each frame (PS3.3 C.7.6.5.1.2): left out of the result."
    if len(items(source, "PerFrameFunctionalGroupsSequence")) not in (0, frames):
        yield (
            "PerFrameFunctionalGroupsSequence does not have an item for each frame (PS3.3 C.7.6.16): each counts for "
            "the frame of its number."
        )


def _of_a_window(voi: Dataset) -> Iterator[str]:
    if _count(voi, "WindowCenter") != _count(voi, "WindowWidth"):
        yield (
            "WindowCenter and WindowWidth are not in pairs (PS3.3 C.11.2.1.2.2): what has no partner is left out of "
            "the result."
        )
    widths = numbers(voi, "WindowWidth")
    if value_of(voi, "VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID"):
        if any(width <= 0 for width in widths):
            yield "WindowWidth is not above 0 (PS3.3 C.11.2.1.3): that window is left out of the result."
    elif any(width < 1 for width in widths):
        yield "WindowWidth is below 1 (PS3.3 C.11.2.1.2.1): that window is left out of the result."


def _windows(source: Dataset) -> Iterator[Dataset]:
    """What may hold a window: the data set itself, and the functional groups (C.7.6.16.2.10)."""
    yield source
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(source, groups):
            yield from items(group, "FrameVOILUTSequence")


def _count(dataset: Dataset, keyword: str) -> int:
    """Values of an attribute; none where it is absent or cannot be read."""
    value = value_of(dataset, keyword)
    if value is None:
        return 0
    return len(value) if isinstance(value, MultiValue | list) else 1
