"""What every Segmentation of ours shares: whose segments they are, and of which frames each of theirs speaks.

PS3.3 C.7.6.16 (functional groups), C.7.6.17 (dimensions), C.8.20 (segments) and C.12.2 (references).
"""

from collections.abc import Sequence

from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg.content import SegmentDescription
from highdicom.seg.enum import SegmentAlgorithmTypeValues
from highdicom.sr.coding import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from dicom_node.implementation import MANUFACTURER
from dicom_node.objects.companion import Companion
from dicom_node.objects.identity import dimension_organization_uid
from dicom_node.objects.references import series_reference, source_reference
from dicom_node.objects.source_header import copy_attributes, read_value
from inference.reconstruction import Provenance

#: What is true of a mask as of the picture: its orientation, its history.
_IMAGE = (
    "ContentQualification",
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "PatientOrientation",
    "ImageLaterality",
    "PixelAspectRatio",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
#: Nothing in the context groups for segments (PS3.16 CID 7150, CID 7151) says how a value came to be: they list
#: anatomy, lesions and devices. The groups for how a measurement was come by do (CID 3627, CID 10009), and a pixel is
#: one: Estimated, or Measured. Both groups may be extended; of the categories the one without a substance fits.
_CATEGORY = codes.SCT.SpatialAndRelationalConcept


def describe_image(source: Dataset, pictures: Sequence[Dataset], result: Companion) -> None:
    """General Image (C.7.6.1), Common Instance Reference (C.12.2), and of Image Pixel (C.7.6.3) what all share."""
    first = pictures[0]
    copy_attributes(first, result, _IMAGE)
    # Of an object with functional groups the image has the laterality, not the series (C.7.3.1).
    if "ImageLaterality" not in result and read_value(first, "Laterality") in ("L", "R"):
        result.ImageLaterality = first.Laterality
    if "LossyImageCompression" not in result:
        result.LossyImageCompression = "00"
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentCreatorName = ""
    result.ReferencedSeriesSequence = [series_reference(pictures), series_reference([source])]
    result.Rows, result.Columns = first.Rows, first.Columns
    result.SamplesPerPixel = 1
    result.PhotometricInterpretation = "MONOCHROME2"
    result.PixelRepresentation = 0


def describe_segment(
    number: int, label: str, description: str, kind: Code, colour: tuple[float, float, float], made: Provenance
) -> SegmentDescription:
    """Segment Description (C.8.20.4), with the model as the algorithm; colour: CIELab."""
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


def put_frames(
    source: Dataset, pictures: Sequence[Dataset], frames: Sequence[tuple[int, int]], result: Companion
) -> None:
    """Multi-frame Functional Groups (C.7.6.16) and Multi-frame Dimension (C.7.6.17): segment, then time.

    frames: of each frame of the result its segment, and the frame of the picture that it belongs to, from 0.
    """
    organization = dimension_organization_uid(result.SOPInstanceUID)
    listed = Dataset()
    listed.DimensionOrganizationUID = organization
    result.DimensionOrganizationSequence = [listed]
    result.DimensionIndexSequence = [
        _dimension(organization, "ReferencedSegmentNumber", "SegmentIdentificationSequence"),
        _dimension(organization, "TemporalPositionIndex", "FrameContentSequence"),
    ]
    result.SharedFunctionalGroupsSequence = [Dataset()]
    result.PerFrameFunctionalGroupsSequence = [_groups(source, pictures, segment, frame) for segment, frame in frames]
    result.NumberOfFrames = len(frames)


def _dimension(organization: str, keyword: str, group: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = organization
    item.DimensionIndexPointer = Tag(tag_for_keyword(keyword) or 0)
    item.FunctionalGroupPointer = Tag(tag_for_keyword(group) or 0)
    return item


def _groups(source: Dataset, pictures: Sequence[Dataset], segment: int, frame: int) -> Dataset:
    """The functional groups of one frame: Frame Content, Segment Identification and Derivation Image."""
    content = Dataset()
    content.DimensionIndexValues = [segment, frame + 1]
    content.TemporalPositionIndex = frame + 1
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment
    picture = pictures[frame] if "NumberOfFrames" not in pictures[0] else pictures[0]
    derivation = Dataset()
    derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.cid7203.SegmentationImageDerivation)]
    derivation.SourceImageSequence = [source_reference(image, frame + 1) for image in (picture, source)]
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.SegmentIdentificationSequence = [identification]
    groups.DerivationImageSequence = [derivation]
    return groups
