"""What was generated, by which model, how much of it and how surely, in words and numbers: a Comprehensive SR beside
the picture (PS3.3 A.35.3).

A plain tree of coded concepts, of no template: TID 1500 is for measurements of what a picture shows, and this tells of
the picture itself (docs/decisions/0027).
"""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    ScoordContentItem,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node.objects import concepts
from dicom_node.objects.account import Account, Shares, View
from dicom_node.objects.character_set import make_room_for
from dicom_node.objects.companion import Companion
from dicom_node.objects.concepts import coded
from dicom_node.objects.identity import Origin
from dicom_node.objects.references import reference
from dicom_node.objects.source_header import read_value
from inference.reconstruction import Provenance, Reconstruction

#: What the intervals were calibrated to hold on scenes that no network had learnt (inference/intervals.py).
_COVERAGE = 0.9
#: Frames of a reference: as text they have to fit into 65534 bytes (PS3.5 7.1.2).
_MOST_FRAMES = 10_000


@dataclass(frozen=True, kw_only=True)
class Unmade:
    """An image of the same series that was not reconstructed."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReportDraft:
    """A report that waits for what becomes of the other images of its series. It holds headers, no pixels."""

    source: Dataset
    pictures: tuple[Dataset, ...]
    companions: tuple[Dataset, ...]
    account: Account
    provenance: Provenance
    origin: Origin
    #: Further sentences for the reader.
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        source: Dataset,
        pictures: Many[Dataset],
        companions: Many[Dataset],
        reconstruction: Reconstruction,
        *,
        origin: Origin,
        notes: Many[str] = (),
    ) -> "ReportDraft":
        """companions: what else goes beside the pictures; notes: sentences for the reader of the report."""
        return cls(
            source=_header(source),
            pictures=tuple(_header(picture) for picture in pictures),
            companions=tuple(_identity(companion) for companion in companions),
            account=Account.of(reconstruction),
            provenance=reconstruction.provenance,
            origin=origin,
            notes=tuple(notes),
        )

    def finished(self, unmade: Many[Unmade] = ()) -> "Report":
        """The report; unmade: the images of the same job that were not reconstructed."""
        return Report(self, unmade)


class Report(Companion):
    """Comprehensive SR (PS3.3 A.35.3): the model, all frames, each still view, the objects, and notes."""

    def __init__(self, draft: ReportDraft, unmade: Many[Unmade]) -> None:
        super().__init__(
            draft.source,
            draft.pictures,
            draft.provenance,
            kind="report",
            sop_class_uid=ComprehensiveSRStorage,
            modality="SR",
            title="Report on GENERATED pixels",
            origin=draft.origin,
        )
        make_room_for(draft.origin.mark.label, self)
        self.CodingSchemeIdentificationSequence = [concepts.scheme()]
        # SR Document Series (C.17.1) and General (C.17.2).
        self.ReferencedPerformedProcedureStepSequence = Sequence()
        self.PerformedProcedureCodeSequence = Sequence()
        self.CompletionFlag = "COMPLETE"
        self.VerificationFlag = "UNVERIFIED"
        self.PreliminaryFlag = "FINAL"
        self.CurrentRequestedProcedureEvidenceSequence = [_evidence(draft, unmade)]
        # SR Document Content (C.17.3).
        root = _container(concepts.REPORT, _content(draft, unmade), relationship=None)
        for element in root:
            self.add(element)


def _content(draft: ReportDraft, unmade: Many[Unmade]) -> Iterator[ContentItem]:
    account, made = draft.account, draft.provenance
    yield CodeContentItem(concepts.LANGUAGE, coded(concepts.ENGLISH), "HAS CONCEPT MOD")
    yield _container(concepts.MODEL, _model(made))
    yield _container(concepts.WHOLE, _whole(account, made))
    for view in account.views:
        yield _container(concepts.VIEW, _view(view, draft.pictures))
    yield _container(concepts.OBJECTS, _objects(draft))
    if unmade:
        yield _container(concepts.NOT_RECONSTRUCTED, _unmade(unmade))
    yield _container(concepts.NOTES, (_text(concepts.COMMENT, note) for note in _notes(draft)))


def _model(made: Provenance) -> Iterator[ContentItem]:
    yield _text(concepts.ALGORITHM_NAME, made.model)
    yield _text(concepts.ALGORITHM_VERSION, made.version)
    yield _text(concepts.DIGEST, made.digest)
    yield _code(concepts.MODE, concepts.BEST_ESTIMATE if made.mode == "mean" else concepts.DRAW)
    if made.mode == "sample":
        yield _number(concepts.SEED, made.seed)


def _whole(account: Account, made: Provenance) -> Iterator[ContentItem]:
    yield _number(concepts.NUMBER_OF_FRAMES, account.frames)
    yield from _shares(account.whole)
    yield _number(concepts.FRAMES_ELSEWHEN, account.frames_elsewhen)
    yield _percent(concepts.COVERAGE, _COVERAGE)
    yield _percent(concepts.RESIDUAL, made.residual_signal)
    yield _number(concepts.FRAMES_BEHIND, round(made.frames_behind, 1))
    known = {"attributes": concepts.FROM_ATTRIBUTES, "pixels": concepts.FROM_PIXELS}
    yield _code(concepts.APERTURE_SOURCE, known[made.aperture_source])


def _view(view: View, pictures: Many[Dataset]) -> Iterator[ContentItem]:
    """The numbers of a still view, and its border as drawn on the first of its pictures."""
    first, last = view.frames.start + 1, view.frames.stop
    yield _text(concepts.FRAMES, str(first) if first == last else f"{first} to {last}")
    yield from _shares(view.shares)
    for line in view.border:
        border = ScoordContentItem(concepts.APERTURE, "POLYLINE", np.asarray(line), relationship_type="CONTAINS")
        border.ContentSequence = ContentSequence([_shown(view.frames, pictures)])
        yield border


def _shares(shares: Shares) -> Iterator[ContentItem]:
    yield _percent(concepts.GENERATED, shares.generated)
    yield _percent(concepts.ELSEWHEN, shares.elsewhen)
    yield _percent(concepts.WIDTH, shares.width)


def _shown(frames: slice, pictures: Many[Dataset]) -> ContentItem:
    """The frames of the picture, or the picture of the first of them."""
    numbers: list[int] | None = None
    picture = pictures[frames.start] if len(pictures) > 1 else pictures[0]
    if frames != slice(0, int(picture.get("NumberOfFrames") or 1)) and "NumberOfFrames" in picture:
        numbers = list(range(frames.start + 1, min(frames.stop, frames.start + _MOST_FRAMES) + 1))
    return _image(concepts.PICTURE, picture, "SELECTED FROM", numbers)


def _objects(draft: ReportDraft) -> Iterator[ContentItem]:
    yield _image(concepts.SOURCE, draft.source)
    for picture in draft.pictures:
        yield _image(concepts.PICTURE, picture)
    for companion in draft.companions:
        if companion.SOPClassUID == SegmentationStorage:
            yield _image(concepts.MASK, companion)
        else:
            yield CompositeContentItem(
                concepts.STATE, companion.SOPClassUID, companion.SOPInstanceUID, relationship_type="CONTAINS"
            )


def _unmade(unmade: Many[Unmade]) -> Iterator[ContentItem]:
    for one in unmade:
        text = _text(concepts.REASON, one.reason)
        image = ImageContentItem(
            concepts.SOURCE, one.sop_class_uid, one.sop_instance_uid, relationship_type="INFERRED FROM"
        )
        text.ContentSequence = ContentSequence([image])
        yield text


def _notes(draft: ReportDraft) -> Iterator[str]:
    """What a reader should know beside the numbers."""
    mark, made = draft.origin.mark, draft.provenance
    yield (
        "Pixels outside the border were generated by a model and not measured. Pixels inside are those of the source, "
        "value by value."
    )
    yield (
        "The 90 % interval lies around the best estimate, and is calibrated to hold that share of the hidden pixels of "
        "scenes that the model was not trained on. Other scenes may differ."
    )
    if made.aperture_source == "pixels":
        yield "No attribute of the source stated an aperture; it was found in the pixels, and may be wrong at its edge."
    if draft.account.frames_elsewhen:
        yield "Pixels measured at another time were taken over from frames of the same still view that saw them."
    if read_value(draft.pictures[0], "LossyImageCompression") == "01":
        yield "The source was once compressed with loss; measured pixels are those that the compression left."
    if mark.burned_in:
        yield f"The mark in the picture reads: {mark.label}"
    else:
        yield "No mark is burned into the picture; the presentation state beside it marks the generated pixels."
    yield from draft.notes


def _header(dataset: Dataset) -> Dataset:
    """A data set without its pixels."""
    header = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a data set would decode every element
        if tag.group < 0x6000:
            header[tag] = dataset.get_item(tag)
    return header


def _identity(dataset: Dataset) -> Dataset:
    identity = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        setattr(identity, keyword, dataset[keyword].value)
    return identity


def _evidence(draft: ReportDraft, unmade: Many[Unmade]) -> Dataset:
    """All that the content refers to, by series (C.17.2.1)."""
    listed: dict[str, list[Dataset]] = {}
    for one in (draft.source, *draft.pictures, *draft.companions):
        listed.setdefault(str(one.SeriesInstanceUID), []).append(reference(one))
    for image in unmade:
        item = Dataset()
        item.ReferencedSOPClassUID = image.sop_class_uid
        item.ReferencedSOPInstanceUID = image.sop_instance_uid
        listed.setdefault(image.series_instance_uid, []).append(item)
    study = Dataset()
    study.StudyInstanceUID = draft.pictures[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for series_instance_uid, instances in listed.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedSOPSequence = instances
        study.ReferencedSeriesSequence.append(series)
    return study


def _container(name: Code, content: Iterator[ContentItem], relationship: str | None = "CONTAINS") -> ContentItem:
    container = ContainerContentItem(name, is_content_continuous=False, relationship_type=relationship)
    container.ContentSequence = ContentSequence(list(content))
    return container


def _text(name: Code, value: str) -> ContentItem:
    return TextContentItem(name, value, "CONTAINS")


def _code(name: Code, value: Code) -> ContentItem:
    return CodeContentItem(name, coded(value), "CONTAINS")


def _number(name: Code, value: float, unit: Code = concepts.NO_UNITS) -> ContentItem:
    item = NumContentItem(name, value, unit, relationship_type="CONTAINS")
    if isinstance(value, int):
        item.MeasuredValueSequence[0].NumericValue = str(value)  # highdicom writes 2.0
    return item


def _percent(name: Code, share: float) -> ContentItem:
    return _number(name, round(100 * share, 2), concepts.PERCENT)


def _image(name: Code, image: Dataset, relationship: str = "CONTAINS", frames: list[int] | None = None) -> ContentItem:
    return ImageContentItem(
        name, image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers=frames, relationship_type=relationship
    )
