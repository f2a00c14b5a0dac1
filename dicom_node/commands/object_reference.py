"""The reference page of the result objects: what becomes of each attribute in each of them, found out by making them.

Results are made of pairs of invented sources that have every attribute of their class, each with a value of its own.
What results repeat of both was copied; what is the same in both results is fixed; all else was computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from config.mark import Mark
from config.objects import ObjectProfile
from dicom_node.commands.marked_sources import Source, marked_reconstruction, marked_source, table
from dicom_node.commands.module_sections import SECTIONS
from dicom_node.objects.functional_groups import GROUPED
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.report import ReportDraft
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from dicom_node.objects.uncertainty import Uncertainty

_INTRODUCTION = """
What becomes of each attribute in each object that goes to a destination. This page is not written by hand: results are
made of pairs of sources that have every attribute of their class, and compared with them.

- **copied**: as in the source, where it has it in a form that the standard allows;
- **computed**: follows from source, reconstruction, route or model; it may equal the source's;
- **fixed**: the same in every object of this kind;
- **omitted**: the class knows it or the source has it, but the object never has it;
- an empty cell: neither the class knows it, nor the source has it.

What stands in the items of a sequence goes with it. Private attributes are omitted, but for blocks of creators that a
route names ([routes](routes.md)). Sections are those of PS3.3; an attribute that several modules have stands in the
first.

| column | object |
| --- | --- |
| cine | Multi-frame Grayscale Word Secondary Capture Image; the Byte class likewise |
| frame | Secondary Capture Image, one a frame |
| XA, RF | X-Ray Angiographic, X-Ray Radiofluoroscopic Image (`like_source`) |
| mask, map | Segmentation of generated pixels, and of their uncertainty |
| state | Grayscale Softcopy Presentation State, both kinds |
| report | Comprehensive SR |
"""

_ENHANCED = """
Their results are Secondary Capture. What these sources say in functional groups goes to the root of a result: from the
shared groups, else from those of each frame. A result of one frame tells what holds for that frame. A cine tells what
is the same in all frames, and of angles that change the first frame's with `PositionerPrimaryAngleIncrement` and
`PositionerSecondaryAngleIncrement` (C.8.7.5.1.3); other values that change are left out. `PositionerMotion` follows
from the angles. `PixelSpacing` is said to be calibrated by `GEOMETRY`. The position of the table (C.8.19.6.11) has no
place in these classes.
"""

_SHORT = ("sc", "sr", "sop", "voi", "lut", "icc", "xa", "xrf", "dx", "x")

Pair = tuple[Source, Source]
Fate = tuple[str, DataElement | None]


_XA, _RF = XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage


@dataclass(frozen=True)
class Column:
    """A kind of result object, and the pairs of sources to make it of."""

    name: str
    sop_class_uid: UID
    pairs: tuple[Pair, ...]
    profile: ObjectProfile
    #: Picks the objects of this kind out of all that a source gives, by what it is.
    pick: str


def _both(values: Mapping[str, tuple[Any, Any]] = MappingProxyType({}), sop_class_uid: UID = _XA) -> Pair:
    """Two sources that differ in these values too."""
    one, other = ({keyword: pair[index] for keyword, pair in values.items()} for index in (0, 1))
    return Source(sop_class_uid=sop_class_uid, values=one), Source(sop_class_uid=sop_class_uid, values=other)


#: What excludes what every source has: frames timed one by one, two planes, tables in place of a rescale.
_OTHERWISE: Mapping[str, tuple[Any, Any]] = {
    "FrameTime": (None, None),
    "FrameTimeVector": ([0, 10, 11], [0, 20, 21, 22]),
    "FrameIncrementPointer": (0x00181065, 0x00181065),
    "ImageType": (["ORIGINAL", "PRIMARY", "BIPLANE A"], ["ORIGINAL", "PRIMARY", "BIPLANE B"]),
    "VOILUTSequence": ([table(1)], [table(2)]),
    "VOILUTFunction": ("SIGMOID", "LINEAR_EXACT"),
    "LossyImageCompressionMethod": ("ISO_10918_1", "ISO_14495_1"),
}
#: Whether a modality LUT is a step of display hangs on it (C.8.7.1.1.2).
_INTENSITIES = "PixelIntensityRelationship"
_TABLES: dict[str, tuple[Any, Any]] = {
    **_OTHERWISE,
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType"), (None, None)),
    _INTENSITIES: ("DISP", "DISP"),
    "ModalityLUTSequence": ([table(1, modality=True)], [table(2, modality=True)]),
}
_CINES = ((Source(), Source(photometric="MONOCHROME1")), _both(_OTHERWISE))
_FRAMES = ((Source(), Source(photometric="MONOCHROME1", signed=True)), _both(_TABLES | {_INTENSITIES: ("LIN", "LIN")}))

COLUMNS: tuple[Column, ...] = (
    Column("cine", MultiFrameGrayscaleWordSecondaryCaptureImageStorage, _CINES, "multiframe_sc", "picture"),
    Column("frame", SecondaryCaptureImageStorage, _FRAMES, "single_frames", "picture"),
    Column("XA", _XA, (_both(), _both(_TABLES)), "like_source", "picture"),
    Column("RF", _RF, (_both({}, _RF), _both(_TABLES, _RF)), "like_source", "picture"),
    Column("mask", SegmentationStorage, _CINES, "multiframe_sc", "mask"),
    Column("map", SegmentationStorage, _CINES, "multiframe_sc", "map"),
    Column("state", GrayscaleSoftcopyPresentationStateStorage, _CINES + _FRAMES, "multiframe_sc", "state"),
    Column("report", ComprehensiveSRStorage, _CINES, "multiframe_sc", "report"),
)


def object_page() -> str:
    """Every attribute of every result object."""
    fates = {column.name: fates_of(column) for column in COLUMNS}
    parts = ["# Result objects", "<!-- Made from the code by `make docs`: what is changed here is lost. -->"]
    parts += [_INTRODUCTION.strip(), *_modules(fates)]
    return "\n\n".join(parts) + "\n"


def fates_of(column: Column) -> dict[str, str]:
    """By keyword what becomes of an attribute: copied, computed, fixed or omitted."""
    found: dict[str, list[Fate]] = {keyword: [] for keyword in _root_keywords(column.sop_class_uid)}
    for pair in column.pairs:
        sources = [marked_source(source, number) for number, source in enumerate(pair, 1)]
        made = [_objects(column, image, pair[number - 1], number) for number, image in enumerate(sources, 1)]
        given = [_by_keyword(image) for image in sources]
        for twins in zip(*made, strict=True):
            results = [_by_keyword(result) for result in twins]
            for keyword in {keyword for each in (*given, *results) for keyword in each}:
                values = [[each.get(keyword) for each in several] for several in (given, results)]
                found.setdefault(keyword, []).append(_fate(*values))
    return {keyword: _told(fates) for keyword, fates in found.items()}


def _by_keyword(dataset: Dataset) -> dict[str, DataElement]:
    return {keyword_for_tag(element.tag): element for element in dataset}


def _fate(given: list[DataElement | None], made: list[DataElement | None]) -> Fate:
    """What became of an attribute in one pair, and the value of what is fixed."""
    if made == [None, None]:
        return "omitted", None
    if made == given and made[0] != made[1]:
        return "copied", None
    return ("fixed", made[0]) if made[0] == made[1] else ("computed", None)


def _told(fates: Sequence[Fate]) -> str:
    """Of all pairs in one word: the one that leaves most open. What differs from pair to pair is not fixed."""
    words = {word for word, _ in fates}
    values = [value for word, value in fates if word == "fixed"]
    if "copied" not in words and any(value != values[0] for value in values):
        return "computed"
    return next((word for word in ("computed", "copied", "fixed") if word in words), "omitted")


def _objects(column: Column, image: Dataset, source: Source, number: int) -> list[Dataset]:
    """The objects of a column's kind that an image gives."""
    made = marked_reconstruction(source, number)
    mark = Mark(label=f"MARK {number}")
    route = f"route {number}"
    created = datetime(2024, number, number, number, tzinfo=UTC)
    pictures = secondary_captures(image, made, route=route, mark=mark, profile=column.profile, created=created)
    origin = Origin.of(made.provenance, route=route, mark=mark, profile=column.profile)
    makers: dict[str, Callable[[], list[Dataset]]] = {
        "picture": lambda: pictures[1:2] or pictures,
        "mask": lambda: [Segmentation(image, pictures, made, origin=origin)],
        "map": lambda: [Uncertainty(image, pictures, made, origin=origin)],
        "state": lambda: presentation_states(image, pictures, made, origin=origin),
        "report": lambda: [ReportDraft.of(image, pictures, [], made, origin=origin).finished()],
    }
    objects = makers[column.pick]()
    if any(result.SOPClassUID != column.sop_class_uid for result in objects):
        raise ValueError(f"A source of the column {column.name} gives another class.")
    return objects


def _modules(fates: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A table for each module in the order of the standard."""
    told: set[str] = set()
    order = sorted(SECTIONS, key=lambda key: [int(part) for part in SECTIONS[key].split(".")[1:]])
    for key in order:
        keywords = [row["keyword"] for row in get_module_attribute_map()[key] if not row["path"]]
        new = [keyword for keyword in dict.fromkeys(keywords) if keyword not in told]
        told.update(new)
        present = [keyword for keyword in new if any(of.get(keyword, "omitted") != "omitted" for of in fates.values())]
        absent = [keyword for keyword in new if keyword not in present]
        if new:
            yield f"## {_title(key)} (PS3.3 {SECTIONS[key]})"
        if present:
            yield _table(present, fates)
        if absent:
            yield f"Omitted in all: {', '.join(f'`{keyword}`' for keyword in absent)}."

    made = {keyword: None for of in fates.values() for keyword, fate in of.items() if fate != "omitted"}
    yield "## Of enhanced sources (Enhanced XA, Enhanced XRF)"
    yield _ENHANCED.strip()
    yield "\n".join(
        [
            "| attribute | in the functional groups | section |",
            "| --- | --- | --- |",
            *(_row(f"`{each.keyword}`", f"`{each.macro}`, `{each.within}`", each.section) for each in GROUPED),
        ]
    )

    yield "## Of other classes (DX, enhanced X-ray)"
    yield _table(sorted(keyword for keyword in made if keyword not in told), fates)


def _table(keywords: Sequence[str], fates: Mapping[str, Mapping[str, str]]) -> str:
    head = [_row("attribute", *fates), _row(*["---"] * (len(fates) + 1))]
    rows = [_row(f"`{keyword}`", *(of.get(keyword, "") for of in fates.values())) for keyword in keywords]
    return "\n".join([*head, *rows])


def _title(key: str) -> str:
    return " ".join(word.upper() if word in _SHORT else word.capitalize() for word in key.split("-"))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _root_keywords(sop_class_uid: UID) -> list[str]:
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
    keys = [module["key"] for module in modules if module["key"] in SECTIONS]
    return [row["keyword"] for key in keys for row in get_module_attribute_map()[key] if not row["path"]]
