"""Whether an object is itself generated: such a one is kept, but never taken for an input.

A result says so several times over, since an archive may drop an attribute that is younger than itself, or give the
object other UIDs. What another Fullfield node has made is told in the same way.
"""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from dicom_node.implementation import GENERATED_WORDS, MANUFACTURER
from dicom_node.workflow.header_text import items, texts
from storage.objects import has_results
from storage.schema import StoredObject

#: Synthesizing Equipment (PS3.16 CID 7005).
_SYNTHESISING = "109100"


def why_generated(header: Dataset) -> str | None:
    """By what the header of an object says that it is generated; None if it does not."""
    return next(_signs(header), None)


def why_made_here(tx: Session, object: StoredObject) -> str | None:
    """Why an object that is new here is a result of this node all the same; None if it is not.

    Who changes the UID of an object, and strips it of its history, rarely changes that of its series.
    """
    # UIDs of results are derived under 2.25 (objects/identity.py); few modalities use that.
    uid = object.series_instance_uid
    if uid.startswith("2.25.") and has_results(tx, uid):
        return "this node has made its series"
    return None


def _signs(header: Dataset) -> Iterator[str]:
    if texts(header, "SyntheticData") == ["YES"]:
        yield "the picture is itself generated (SyntheticData is YES)"
    image_type = texts(header, "ImageType") or []
    if image_type[:1] == ["DERIVED"] and "GENERATED" in image_type:
        yield "the picture is itself generated (ImageType holds GENERATED)"
    if any(_has_synthesised(equipment) for equipment in items(header, "ContributingEquipmentSequence")):
        yield f"it is itself a result (ContributingEquipmentSequence names {MANUFACTURER} as synthesizing equipment)"
    # An original of this manufacturer is the sample, which is drawn and not reconstructed.
    if texts(header, "Manufacturer") == [MANUFACTURER] and image_type[:1] != ["ORIGINAL"]:
        yield f"it is itself a result (Manufacturer is {MANUFACTURER})"
    if any(GENERATED_WORDS in text for text in texts(header, "DerivationDescription") or ()):
        yield "the picture is itself generated (DerivationDescription says so)"


def _has_synthesised(equipment: Dataset) -> bool:
    purposes = items(equipment, "PurposeOfReferenceCodeSequence")
    return texts(equipment, "Manufacturer") == [MANUFACTURER] and any(
        texts(purpose, "CodeValue") == [_SYNTHESISING] for purpose in purposes
    )
