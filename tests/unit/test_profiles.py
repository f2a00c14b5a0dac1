"""Of which class the pictures are that a destination gets: each profile, and what it cannot hold."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedXAImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from config.mark import Mark
from config.objects import ObjectProfile
from config.routes import Destination, Route, RouteTable
from dicom_node.objects.identity import Origin
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from tests.factory import reconstruction, xa

MADE = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
NO_TIMING = ["FrameTime", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"]


def pictures(source: Dataset, profile: ObjectProfile) -> list[Dataset]:
    return secondary_captures(source, reconstruction(source), route="chest", mark=Mark(), profile=profile, created=MADE)


def other_plane() -> list[Dataset]:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = XRayAngiographicImageStorage, "1.2.3"
    return [reference]


def test_single_frames_are_one_object_a_frame_whatever_the_source():
    source = xa(frames=3, instance_number=2)
    results = pictures(source, "single_frames")
    assert [each.SOPClassUID for each in results] == [SecondaryCaptureImageStorage] * 3
    assert [each.InstanceNumber for each in results] == [20001, 20002, 20003]
    assert [each.SourceImageSequence[0].ReferencedFrameNumber for each in results] == [1, 2, 3]
    [whole] = pictures(source, "multiframe_sc")
    assert b"".join(each.PixelData.read() for each in results) == whole.PixelData.read()


@pytest.mark.parametrize("kind", [{}, {"bits_stored": 8}, {"frames": 0}, {"frames": 1, "missing": NO_TIMING}])
@pytest.mark.parametrize("sop_class", [XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage])
def test_like_source_is_an_image_of_the_source_s_class_that_says_that_it_is_derived(sop_class, kind):
    source = xa(sop_class=sop_class, ContrastBolusAgent="Iodine", **kind)
    [result] = pictures(source, "like_source")
    assert result.SOPClassUID == sop_class
    assert result.ImageType == ["DERIVED", "SECONDARY", "SINGLE PLANE", "GENERATED"]
    assert result.SyntheticData == "YES"
    assert ("NumberOfFrames" in result) == (source.get("NumberOfFrames", 1) > 1)
    for keyword in ("RadiationSetting", "KVP", "ExposureTime", "ContrastBolusAgent", "WindowCenter", "BitsStored"):
        assert result[keyword].value == source[keyword].value, keyword
    assert "ConversionType" not in result


@pytest.mark.parametrize(
    ("kind", "sop_class"),
    [
        ({"signed": True}, SecondaryCaptureImageStorage),
        ({"photometric": "MONOCHROME1"}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"bits_stored": 14}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"bits_stored": 8, "missing": ["RadiationSetting"]}, MultiFrameGrayscaleByteSecondaryCaptureImageStorage),
        ({"sop_class": EnhancedXAImageStorage}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"missing": NO_TIMING}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "BIPLANE A"]}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"PixelIntensityRelationship": "LOG"}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        ({"RescaleSlope": 2, "RescaleIntercept": 0}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_what_the_source_s_class_cannot_hold_or_the_source_does_not_tell_goes_as_multiframe_sc(kind, sop_class):
    assert {each.SOPClassUID for each in pictures(xa(**kind), "like_source")} == {sop_class}


def test_a_plane_of_two_names_the_other_and_a_logarithmic_image_keeps_its_modality_lut():
    source = xa(
        ImageType=["ORIGINAL", "PRIMARY", "BIPLANE B"],
        ReferencedImageSequence=other_plane(),
        PixelIntensityRelationship="LOG",
        RescaleSlope="0.5",
        RescaleIntercept="1",
        RescaleType="US",
    )
    [result] = pictures(source, "like_source")
    assert result.SOPClassUID == XRayAngiographicImageStorage
    assert result.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert (result.RescaleSlope, result.RescaleIntercept, result.RescaleType) == (0.5, 1, "US")


@pytest.mark.parametrize("kind", [{}, {"signed": True}, {"frames": 0}], ids=str)
def test_no_two_profiles_share_a_uid_and_each_segmentation_refers_to_its_own_pictures(kind):
    source = xa(**kind)
    made = reconstruction(source)
    uids: list[str] = []
    for profile in ("multiframe_sc", "single_frames", "like_source"):
        shown = pictures(source, profile)
        assert [each.SOPInstanceUID for each in shown] == [each.SOPInstanceUID for each in pictures(source, profile)]
        origin = Origin.of(made.provenance, route="chest", mark=Mark(), profile=profile)
        mask = Segmentation(source, shown, made, origin=origin)
        named = mask.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert [each.ReferencedSOPInstanceUID for each in named] == [each.SOPInstanceUID for each in shown]
        uids += [shown[0].SeriesInstanceUID, mask.SeriesInstanceUID, mask.SOPInstanceUID]
        uids += [each.SOPInstanceUID for each in shown]
    assert len(set(uids)) == len(uids)


def test_the_pixels_of_all_profiles_are_the_same():
    source = xa(rows=63, columns=61, frames=3)
    found = [
        np.concatenate([each.pixel_array.reshape(-1, 63, 61) for each in pictures(source, profile)])
        for profile in ("multiframe_sc", "single_frames", "like_source")
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_job_carries_what_its_destinations_were_to_get():
    names = {"pacs": "multiframe_sc", "old": "single_frames", "older": "single_frames"}
    table = RouteTable(
        routes=(Route(name="all", destinations=("old", "pacs", "older")),),
        destinations=tuple(
            Destination(name=name, ae_title="PACS", host="127.0.0.1", port=104, objects=objects)
            for name, objects in names.items()
        ),
    )
    queued = table.queued(table.routes[0])
    assert queued.by_objects == {"single_frames": ["old", "older"], "multiframe_sc": ["pacs"]}
    assert type(queued).model_validate(queued.model_dump(mode="json")) == queued
