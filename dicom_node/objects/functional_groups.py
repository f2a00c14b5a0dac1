"""What enhanced objects say in functional groups (PS3.3 C.7.6.16), as the attributes that their results say it with.

The classes of results have no place for these groups, nor for the position of the table (C.8.19.6.11), which is told
in coordinates of the room.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from dicom_node.objects.character_set import as_meant, is_named
from dicom_node.objects.required_attributes import frame_count
from dicom_node.objects.source_faults import mended
from inference.header import UNREADABLE, items


@dataclass(frozen=True)
class Grouped:
    """An attribute of a result, and where an enhanced source says it."""

    keyword: str
    #: The sequence of the macro, and the attribute in its item.
    macro: str
    within: str
    #: Of PS3.3, where the macro is defined.
    section: str


#: Of the X-Ray Collimator module (C.8.7.3), and within the macro below.
COLLIMATOR = (
    "CollimatorShape",
    "CollimatorLeftVerticalEdge",
    "CollimatorRightVerticalEdge",
    "CollimatorUpperHorizontalEdge",
    "CollimatorLowerHorizontalEdge",
    "CenterOfCircularCollimator",
    "RadiusOfCircularCollimator",
    "VerticesOfThePolygonalCollimator",
)
_COLLIMATOR = ("CollimatorShapeSequence", "C.8.19.6.12")
#: Distance Source to Patient is the one to the isocenter (C.8.7.5, note).
GROUPED = (
    Grouped("PositionerPrimaryAngle", "PositionerPositionSequence", "PositionerPrimaryAngle", "C.8.19.6.10"),
    Grouped("PositionerSecondaryAngle", "PositionerPositionSequence", "PositionerSecondaryAngle", "C.8.19.6.10"),
    Grouped("DistanceSourceToDetector", "XRayGeometrySequence", "DistanceSourceToDetector", "C.8.19.6.14"),
    Grouped("DistanceSourceToPatient", "XRayGeometrySequence", "DistanceSourceToIsocenter", "C.8.19.6.14"),
    Grouped("ImagerPixelSpacing", "FramePixelDataPropertiesSequence", "ImagerPixelSpacing", "C.8.19.6.4"),
    Grouped("PixelSpacing", "ProjectionPixelCalibrationSequence", "ObjectPixelSpacingInCenterOfBeam", "C.8.19.6.9"),
    *(
        Grouped(keyword, "FramePixelDataPropertiesSequence", keyword, "C.8.19.6.4")
        for keyword in ("PixelIntensityRelationship", "PixelIntensityRelationshipSign")
    ),
    *(Grouped(keyword, _COLLIMATOR[0], keyword, _COLLIMATOR[1]) for keyword in COLLIMATOR),
    Grouped("PatientOrientation", "PatientOrientationInFrameSequence", "PatientOrientation", "C.7.6.16.2.15"),
    Grouped("ImageLaterality", "FrameAnatomySequence", "FrameLaterality", "C.7.6.16.2.8"),
    Grouped("AnatomicRegionSequence", "FrameAnatomySequence", "AnatomicRegionSequence", "C.7.6.16.2.8"),
    Grouped(
        "PrimaryAnatomicStructureSequence", "FrameAnatomySequence", "PrimaryAnatomicStructureSequence", "C.7.6.16.2.8"
    ),
    Grouped("IrradiationEventUID", "IrradiationEventIdentificationSequence", "IrradiationEventUID", "C.7.6.16.2.18"),
)
_ANGLES = ("PositionerPrimaryAngle", "PositionerSecondaryAngle")


def functional_group(source: Dataset, macro: str) -> Dataset | None:
    """The item of a macro: the shared one, else the first frame's."""
    return next(iter(_items_of(source, macro, None)), None)


def grouped_elements(source: Dataset, frame: int | None = None) -> Iterator[DataElement]:
    """What the functional groups of a source say, of one frame (from 1) or of all.

    Of all frames only what is the same in each can be said; of angles that change, which a result says by increments
    (C.8.7.5.1.3), all of it.
    """
    each = {grouped: _elements(source, grouped, frame) for grouped in GROUPED}
    same = {grouped: elements[0] for grouped, elements in each.items() if elements and _agree(elements)}
    if any(elements and not _agree(elements) for grouped, elements in each.items() if grouped.macro == _COLLIMATOR[0]):
        same = {grouped: element for grouped, element in same.items() if grouped.macro != _COLLIMATOR[0]}
    for grouped, element in same.items():
        yield _named(grouped.keyword, element)
        if grouped.keyword == "PixelSpacing":
            yield DataElement("PixelSpacingCalibrationType", "CS", "GEOMETRY")
            yield DataElement("PixelSpacingCalibrationDescription", "LO", "Object Pixel Spacing in Center of Beam")
    yield from _motion({grouped.keyword: each[grouped] for grouped in GROUPED if grouped.keyword in _ANGLES})


def _motion(angles: dict[str, list[DataElement]]) -> Iterator[DataElement]:
    """Positioner Motion; where there is some, each frame's way from the first (C.8.7.5.1.3)."""
    if not all(angles.values()):
        return
    moves = any(not _agree(elements) for elements in angles.values())
    yield DataElement("PositionerMotion", "CS", "DYNAMIC" if moves else "STATIC")
    if not moves:
        return
    for keyword, elements in angles.items():
        degrees = [float(element.value) for element in elements]
        steps = [DSfloat(round(each - degrees[0], 3), auto_format=True) for each in degrees]
        yield elements[0]
        yield DataElement(f"{keyword}Increment", "DS", steps)


def _items_of(source: Dataset, macro: str, frame: int | None) -> list[Dataset]:
    """The item of a macro, or one for each frame; none where not every frame has it."""
    for shared in items(source, "SharedFunctionalGroupsSequence")[:1]:
        if found := items(shared, macro)[:1]:
            return found
    frames = frame_count(source)
    groups = items(source, "PerFrameFunctionalGroupsSequence")[:frames]
    if frame is None and len(groups) < frames:
        return []
    each = [items(group, macro)[:1] for group in (groups if frame is None else groups[frame - 1 : frame])]
    return [item for [item] in each] if all(each) else []


def _elements(source: Dataset, grouped: Grouped, frame: int | None) -> list[DataElement]:
    """A valid copy of an attribute of a macro, one or one for each frame; none where not every item has it."""
    found = [_element(source, item, grouped.within) for item in _items_of(source, grouped.macro, frame)]
    return [element for element in found if element is not None] if None not in found else []


def _element(source: Dataset, item: Dataset, keyword: str) -> DataElement | None:
    try:
        element = mended(item[keyword]) if keyword in item else None
    except UNREADABLE:
        return None
    if element is None or element.is_empty:
        return None
    return element if is_named(source) else as_meant(element)


def _agree(elements: list[DataElement]) -> bool:
    return all(element.value == elements[0].value for element in elements)


def _named(keyword: str, element: DataElement) -> DataElement:
    """The element under a name of its own; decimals of single precision as decimal strings."""
    vr = dictionary_VR(tag_for_keyword(keyword) or 0)
    if element.VR == "FL" and vr == "DS":
        values = [DSfloat(str(np.float32(value))) for value in np.atleast_1d(element.value)]
        return DataElement(keyword, vr, values if len(values) > 1 else values[0])
    return DataElement(keyword, vr, element.value)
