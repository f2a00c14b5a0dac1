"""What an archive sends in place of an original whose file is damaged: whether it is that original, and how it differs.

What stands before the data set is the same for every transfer (incoming.py). So an archive that gives the data set
back as it got it gives back the very file, and the digest proves it. Some encode it anew. Then nothing is left that
its pixels could be compared with: it is taken for the original if all that was noted of that says so and nothing was
lost on the way, and how it differs is told.
"""

from dataclasses import replace
from typing import Any

from pydicom.datadict import keyword_for_tag
from sqlalchemy.orm import Session

from dicom_node.lossy import LOSSY
from storage.levels import KEPT, Attributes, Level, described
from storage.objects import Kept, ReceivedObject, keep_object, mend_object
from storage.refetches import catalogued, damaged_original
from storage.schema import Fetch, StoredObject
from storage.states import FetchState, ObjectKind

#: What of a picture no archive has a reason to change.
_OF_THE_PICTURE = ("Rows", "Columns", "SamplesPerPixel", "BitsStored")


def keep_again(tx: Session, fetch: Fetch, received: ReceivedObject) -> tuple[Kept, dict[str, Any]]:
    """Keep what comes of asking for a damaged original, as that or beside it; and what is to be told of it."""
    beside = replace(received, kind=ObjectKind.FETCHED)
    damaged = damaged_original(tx, fetch.sop_instance_uid or "", lock=True)
    if damaged is None or damaged.sop_instance_uid != received.sop_instance_uid:
        return keep_object(tx, beside), {}
    if damaged.digest == received.digest:
        return mend_object(tx, damaged, received), {"differs": "in nothing"}
    before, now = catalogued(tx, damaged), _described(received)
    why_not = _why_not(damaged, before, received, now)
    if fetch.state != FetchState.ASKED:
        why_not = "it came when it was no longer asked for, with other bytes"
    if why_not is not None:
        fetch.reason = f"what {fetch.archive} sent is not the original: {why_not}"
        return keep_object(tx, beside), {"reason": why_not}
    told = _differences(damaged, before, received, now)
    return mend_object(tx, damaged, received), told


def _why_not(damaged: StoredObject, before: Attributes, received: ReceivedObject, now: Attributes) -> str | None:
    """Why it is not the original; None if nothing says so."""
    for name in ("sop_class_uid", "study_instance_uid", "series_instance_uid", "frames"):
        if getattr(received, name) != getattr(damaged, name):
            return f"it has another {_WORDS[name]}"
    tags = KEPT[Level.IMAGE]
    for keyword in _OF_THE_PICTURE:
        if tags[keyword] in before and before[tags[keyword]] != now.get(tags[keyword]):
            return f"it has another {keyword}"
    became_lossy = received.transfer_syntax_uid in LOSSY and damaged.transfer_syntax_uid not in LOSSY
    lossy = tags["LossyImageCompression"]
    if became_lossy or (_is_yes(now, lossy) and before and not _is_yes(before, lossy)):
        return "it was compressed with loss on the way"
    return None


_WORDS = {
    "sop_class_uid": "SOP class",
    "study_instance_uid": "study",
    "series_instance_uid": "series",
    "frames": "number of frames",
}


def _differences(
    damaged: StoredObject, before: Attributes, received: ReceivedObject, now: Attributes
) -> dict[str, Any]:
    """How it differs from what was acknowledged, as far as that is known."""
    told: dict[str, Any] = {"digest_before": damaged.digest, "differs": "in other bytes of the same transfer syntax"}
    if received.transfer_syntax_uid != damaged.transfer_syntax_uid:
        told["differs"] = "in the transfer syntax"
        told["transfer_syntax_before_uid"] = damaged.transfer_syntax_uid
    changed = sorted(tag for tag in before.keys() | now.keys() if before and before.get(tag) != now.get(tag))
    if changed:
        told["changed"] = [keyword_for_tag(tag) for tag in changed]
    return told


def _described(received: ReceivedObject) -> Attributes:
    return described(received.header, Level) if received.header is not None else {}


def _is_yes(attributes: Attributes, lossy: str) -> bool:
    values: list[Any] = attributes.get(lossy, {}).get("Value", [])
    return "01" in values
