"""Which pixels of a result were generated, for machines: a Segmentation object beside the picture (PS3.3 A.51)."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from highdicom.base import SOPClass
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg.content import SegmentDescription
from highdicom.seg.enum import SegmentAlgorithmTypeValues
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from config.mark import Mark
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects.identity import (
    Origin,
    dimension_organization_uid,
    segmentation_instance_uid,
    segmentation_series_uid,
)
from dicom_node.objects.provenance import MANUFACTURER, software_versions
from dicom_node.objects.source_header import copy_attributes, read_value
from inference.reconstruction import Provenance, Reconstruction

#: What is true of the mask as of the picture: its series' patient and place, its orientation, its history.
_SHARED = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentQualification",
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "RequestAttributesSequence",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "InstitutionalDepartmentTypeCodeSequence",
    "PatientOrientation",
    "ImageLaterality",
    "PixelAspectRatio",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "ContributingEquipmentSequence",
)
#: Nothing in the context groups for segments (PS3.16 CID 7150, CID 7151) says how a value came to be: they list
#: anatomy, lesions and devices. The groups for how a measurement was come by do (CID 3627, CID 10009), and a pixel is
#: one: Estimated, or Measured. Both groups may be extended; of the categories the one without a substance fits.
_CATEGORY = codes.SCT.SpatialAndRelationalConcept
_GENERATED, _ELSEWHEN = 1, 2


class Segmentation(SOPClass):  # type: ignore[misc]  # highdicom is not followed
    """Segmentation Image (PS3.3 A.51), BINARY: segment 1, "Generated pixels", and, where there are any, segment 2,
    "Measured at another time".

    Segment 1 has a frame for each of the picture, an empty one too, so that each says what of it was generated;
    segment 2 has one where there is something to show. Frames refer to those of the picture (C.7.6.16.2.6), since
    projections have no frame of reference.
    """

    def __init__(
        self, source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, route: str, mark: Mark
    ) -> None:
        """source: the image that was reconstructed; only its header is read.

        pictures: what `secondary_captures` made of it, with the same route and mark.
        The same arguments give the same object, byte for byte.
        """
        made, first = reconstruction.provenance, pictures[0]
        origin = Origin(route=route, model_digest=made.digest, mode=made.mode, seed=made.seed, mark=mark)
        super().__init__(
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=segmentation_series_uid(source.SeriesInstanceUID, origin),
            series_number=min(int(first.SeriesNumber) + 1, 2**31 - 1),
            sop_instance_uid=segmentation_instance_uid(source.SOPInstanceUID, origin),
            sop_class_uid=SegmentationStorage,
            instance_number=int(first.InstanceNumber),
            modality="SEG",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            # Software has none, and the attribute is of type 1 (C.7.5.2): what tells one model from another.
            device_serial_number=made.digest[:64],
            software_versions=software_versions(made),
            content_date=first.ContentDate,
            content_time=first.ContentTime,
        )
        self.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        self.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        self.copy_patient_and_study_information(first)
        copy_attributes(first, self, _SHARED)
        # Of an object with functional groups the image has the laterality, not the series (C.7.3.1).
        if "ImageLaterality" not in self and read_value(first, "Laterality") in ("L", "R"):
            self.ImageLaterality = first.Laterality
        described = ("Mask of GENERATED pixels", str(read_value(source, "SeriesDescription") or ""))
        self.SeriesDescription = ": ".join(part for part in described if part)[:64].strip()
        frames = _frames(reconstruction)
        self._describe_segments(made, {segment for segment, _ in frames})
        self._refer_to(pictures)
        self._put_groups(pictures, frames)
        self._put_pixels(reconstruction, frames)

    def _describe_segments(self, made: Provenance, used: set[int]) -> None:
        """Segmentation Image (C.8.20.2)."""
        self.ImageType = ["DERIVED", "PRIMARY"]
        self.SegmentationType = "BINARY"
        self.SegmentsOverlap = "NO"
        self.ContentLabel = "GENERATED_PIXELS"
        self.ContentDescription = "Pixels of the picture that were not measured"
        self.ContentCreatorName = ""
        self.SegmentSequence = [_segment(number, made) for number in sorted(used)]
        if "LossyImageCompression" not in self:
            self.LossyImageCompression = "00"

    def _refer_to(self, pictures: Sequence[Dataset]) -> None:
        """Common Instance Reference (C.12.2)."""
        series = Dataset()
        series.SeriesInstanceUID = pictures[0].SeriesInstanceUID
        series.ReferencedInstanceSequence = [_reference(picture) for picture in pictures]
        self.ReferencedSeriesSequence = [series]

    def _put_groups(self, pictures: Sequence[Dataset], frames: Sequence[tuple[int, int]]) -> None:
        """Multi-frame Functional Groups (C.7.6.16) and Multi-frame Dimension (C.7.6.17): segment, then time."""
        organization = dimension_organization_uid(self.SOPInstanceUID)
        listed = Dataset()
        listed.DimensionOrganizationUID = organization
        self.DimensionOrganizationSequence = [listed]
        self.DimensionIndexSequence = [
            _dimension(organization, "ReferencedSegmentNumber", "SegmentIdentificationSequence"),
            _dimension(organization, "TemporalPositionIndex", "FrameContentSequence"),
        ]
        self.SharedFunctionalGroupsSequence = [Dataset()]
        self.PerFrameFunctionalGroupsSequence = [_groups(pictures, segment, frame) for segment, frame in frames]
        self.NumberOfFrames = len(frames)

    def _put_pixels(self, reconstruction: Reconstruction, frames: Sequence[tuple[int, int]]) -> None:
        """Image Pixel (C.7.6.3): one bit a pixel, the frames without a gap between them (PS3.5 8.1.1, D.2)."""
        self.Rows, self.Columns = reconstruction.aperture.shape[1:]
        self.SamplesPerPixel = 1
        self.PhotometricInterpretation = "MONOCHROME2"
        self.BitsAllocated = self.BitsStored = 1
        self.HighBit = self.PixelRepresentation = 0
        masks = (_mask(reconstruction, segment, frame) for segment, frame in frames)
        # Eight frames fill whole bytes, whatever their size.
        packed = b"".join(_packed(list(islice(masks, 8))) for _ in range(0, len(frames), 8))
        self.PixelData = packed + b"\0" * (len(packed) % 2)
        self["PixelData"].VR = "OB"


def _frames(reconstruction: Reconstruction) -> list[tuple[int, int]]:
    """The segment of each frame, and the frame of the picture that it belongs to, from 0."""
    every = range(len(reconstruction.aperture))
    taken_over = np.flatnonzero(reconstruction.elsewhen.any(axis=(1, 2))).tolist()
    return [*((_GENERATED, frame) for frame in every), *((_ELSEWHEN, frame) for frame in taken_over)]


def _mask(reconstruction: Reconstruction, segment: int, frame: int) -> NDArray[np.bool_]:
    """(h, w) bool, True = the pixel is of the segment."""
    elsewhen = reconstruction.elsewhen[frame]
    return np.asarray(elsewhen if segment == _ELSEWHEN else ~(reconstruction.aperture[frame] | elsewhen))


def _packed(masks: list[NDArray[np.bool_]]) -> bytes:
    return np.packbits(np.stack(masks), bitorder="little").tobytes()


def _segment(number: int, made: Provenance) -> SegmentDescription:
    """Segment Description (C.8.20.4)."""
    kinds: dict[int, tuple[str, str, Code, tuple[float, float, float]]] = {
        _GENERATED: ("Generated pixels", "Made by the model; measured in no frame.", codes.SCT.Estimated, (65, 45, 65)),
        _ELSEWHEN: (
            "Measured at another time",
            "Hidden in this frame; taken over from another frame of the same view.",
            codes.SCT.Measured,
            (60, -10, -40),
        ),
    }
    label, description, kind, colour = kinds[number]
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=_CATEGORY,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=made.model[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=made.version[:64],
            source=MANUFACTURER,
            parameters={
                "sha256": made.digest,
                "mode": made.mode,
                "seed": str(made.seed),
                "aperture": made.aperture_source,
            },
        ),
        display_color=CIELabColor(*colour),
    )
    segment.SegmentDescription = description
    return segment


def _dimension(organization: str, keyword: str, group: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = organization
    item.DimensionIndexPointer = Tag(tag_for_keyword(keyword) or 0)
    item.FunctionalGroupPointer = Tag(tag_for_keyword(group) or 0)
    return item


def _groups(pictures: Sequence[Dataset], segment: int, frame: int) -> Dataset:
    """The functional groups of one frame: Frame Content, Segment Identification and Derivation Image."""
    content = Dataset()
    content.DimensionIndexValues = [segment, frame + 1]
    content.TemporalPositionIndex = frame + 1
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment
    picture = pictures[frame] if "NumberOfFrames" not in pictures[0] else pictures[0]
    image = _reference(picture)
    if "NumberOfFrames" in picture:
        image.ReferencedFrameNumber = frame + 1
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = Dataset()
    derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.cid7203.SegmentationImageDerivation)]
    derivation.SourceImageSequence = [image]
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.SegmentIdentificationSequence = [identification]
    groups.DerivationImageSequence = [derivation]
    return groups


def _reference(picture: Dataset) -> Dataset:
    """Image SOP Instance Reference (10-3), without the frame."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = picture.SOPClassUID
    reference.ReferencedSOPInstanceUID = picture.SOPInstanceUID
    return reference
