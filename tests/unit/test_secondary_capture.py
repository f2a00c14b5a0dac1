"""The result object: stored values, header, look and marks."""

from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedXAImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from config.errors import UnsupportedImage
from config.mark import Mark
from dicom_node.lossy import METHODS
from dicom_node.objects.secondary_capture import secondary_captures
from tests.factory import Box, centre, measured, reconstruction, xa

MADE = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def capture(source, made=None, **changes):
    """The results of a source, each written to a file and read back."""
    options = {"route": "chest", "mark": Mark(), "created": MADE} | changes
    results = secondary_captures(source, made or reconstruction(source), **options)
    return [dcmread(BytesIO(written(each))) for each in results]


def written(dataset):
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def pixels(results):
    """(n, h, w) stored values of all results together."""
    frames = [each.pixel_array for each in results]
    return np.concatenate([frame[None] if frame.ndim == 2 else frame for frame in frames])


@st.composite
def cines(draw):
    """A source of any supported kind with an aperture for each frame, and a reconstruction of it."""
    rows, columns, frames = draw(st.integers(8, 45)), draw(st.integers(8, 45)), draw(st.integers(0, 3))
    boxes = []
    for _ in range(max(1, frames)):
        left, top = draw(st.integers(0, columns - 2)), draw(st.integers(0, rows - 2))
        boxes.append(Box(left, top, draw(st.integers(left + 1, columns)), draw(st.integers(top + 1, rows))))
    source = xa(
        frames=frames,
        rows=rows,
        columns=columns,
        bits_stored=draw(st.integers(8, 16)),
        signed=draw(st.booleans()),
        photometric=draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        aperture=boxes,
    )
    return source, reconstruction(source, boxes, noise=draw(st.integers(0, 9)))


@settings(max_examples=40, deadline=None)
@given(cine=cines())
def test_the_same_arguments_give_the_same_bytes(cine):
    source, made = cine
    first, second = (
        [written(each) for each in secondary_captures(source, made, route="r", mark=Mark(), created=MADE)]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("kind", "sop_class", "count"),
    [
        ({}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 1),
        ({"bits_stored": 16}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 1),
        ({"bits_stored": 8}, MultiFrameGrayscaleByteSecondaryCaptureImageStorage, 1),
        ({"bits_stored": 8, "bits_allocated": 16}, MultiFrameGrayscaleByteSecondaryCaptureImageStorage, 1),
        ({"frames": 0}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 1),
        ({"photometric": "MONOCHROME1"}, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 1),
        ({"photometric": "MONOCHROME1", "bits_stored": 8}, SecondaryCaptureImageStorage, 4),
        ({"signed": True}, SecondaryCaptureImageStorage, 4),
        ({"signed": True, "frames": 0}, SecondaryCaptureImageStorage, 1),
    ],
)
def test_each_source_gets_the_class_that_can_hold_its_values(kind, sop_class, count):
    source = xa(**kind)
    results = capture(source)
    assert [each.SOPClassUID for each in results] == [sop_class] * count
    assert len({each.SOPInstanceUID for each in results}) == count
    assert len({each.InstanceNumber for each in results}) == count
    assert {each.SeriesInstanceUID for each in results} == {results[0].SeriesInstanceUID}
    assert results[0].SeriesInstanceUID != source.SeriesInstanceUID
    assert {each.StudyInstanceUID for each in results} == {source.StudyInstanceUID}


def test_a_split_cine_says_which_frame_each_object_shows():
    results = capture(xa(signed=True, instance_number=3))
    assert [each.SourceImageSequence[0].ReferencedFrameNumber for each in results] == [1, 2, 3, 4]
    assert [each.InstanceNumber for each in results] == [30001, 30002, 30003, 30004]


def test_uids_follow_source_route_model_and_all_else_that_changes_the_pixels():
    source = xa()

    def uids(route="chest", label="GENERATED", **made):
        result = capture(source, reconstruction(source, **made), route=route, mark=Mark(label=label))[0]
        return result.SeriesInstanceUID, result.SOPInstanceUID

    assert uids() == uids()
    others = [
        uids(route="heart"),
        uids(digest="b" * 64),
        uids(mode="sample"),
        uids(label="SYNTHETIC"),
    ]
    assert len({*uids(), *(uid for other in others for uid in other)}) == 10
    assert uids(mode="sample", seed=8)[1] != uids(mode="sample", seed=9)[1]


def test_the_header_says_that_pixels_are_generated_and_by_what():
    source = xa()
    [result] = capture(source, reconstruction(source, mode="sample", seed=11, steps=8))
    assert result.SyntheticData == "YES"
    assert result.ContentQualification == "RESEARCH"
    assert result.ImageType == ["DERIVED", "SECONDARY", "SINGLE PLANE", "GENERATED"]
    assert result.ConversionType == "SYN"
    assert "GENERATED" in result.SeriesDescription
    assert result.DerivationCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    [image] = result.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "ReferencedFrameNumber" not in image
    text = result.DerivationDescription
    for fact in ("75.0 %", "fullfield 1.0", "0123456789abcdef" * 4, "mode sample", "seed 11", "8 steps"):
        assert fact in text
    for fact in ("Aperture from attributes", "best estimate's 90 % interval 0.2500", "no room for the label"):
        assert fact in text


def test_the_equipment_is_told_from_acquisition_to_synthesis():
    source = xa()
    earlier = Dataset()
    earlier.Manufacturer = "Earlier"
    source.ContributingEquipmentSequence = [earlier]
    [result] = capture(source)
    history = result.ContributingEquipmentSequence
    assert [item.Manufacturer for item in history] == ["Earlier", "Invented Imaging", "Fullfield"]
    assert history[1].PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
    assert history[2].PurposeOfReferenceCodeSequence[0].CodeMeaning == "Synthesizing Equipment"
    assert history[2].SoftwareVersions[1:] == ["fullfield 1.0", "0123456789abcdef" * 4]
    assert result.Manufacturer == "Fullfield"


def test_a_long_model_name_does_not_break_the_header():
    source = xa()
    made = reconstruction(source, model="m" * 300, version="v" * 300, device="d" * 300)
    assert len(capture(source, made)[0].DerivationDescription) <= 1024


def test_the_label_is_drawn_where_there_is_room():
    source = xa(rows=256, columns=256, frames=2)
    [result] = capture(source)
    assert result.DerivationDescription.endswith("Drawn on generated pixels: border and label.")


def test_the_mark_is_drawn_in_the_greys_of_the_window():
    source = xa(rows=256, columns=256, frames=1, WindowCenter=1000, WindowWidth=1600)
    made = reconstruction(source)
    made.stored[~made.aperture] = 700
    [result] = capture(source, made, mark=Mark(contrast="bright"))
    drawn = result.pixel_array[~made.aperture[0]]
    assert (drawn.min(), drawn.max()) == (200, 1800)


def test_patient_study_place_and_beam_are_carried_over():
    source = xa(FrameOfReferenceUID="1.2.3", InstitutionName="Clinic", IrradiationEventUID="1.2.4")
    [result] = capture(source)
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "Modality",
        "BodyPartExamined",
        "PatientPosition",
        "TimezoneOffsetFromUTC",
        "InstitutionName",
        "FrameOfReferenceUID",
        "IrradiationEventUID",
        "AcquisitionDate",
        "AcquisitionTime",
        "InstanceNumber",
        "ImagerPixelSpacing",
        "DistanceSourceToDetector",
        "DistanceSourceToPatient",
        "PositionerPrimaryAngle",
        "PositionerSecondaryAngle",
        "CollimatorShape",
        "LossyImageCompression",
    ):
        assert result[keyword].value == source[keyword].value, keyword
    assert result.SeriesNumber == 201
    assert result.PositionReferenceIndicator == ""


def test_a_display_shutter_would_hide_the_result_and_stays_behind():
    [result] = capture(xa(attributes_say="shutter"))
    assert "ShutterShape" not in result


def test_private_attributes_stay_behind_at_every_level():
    source = xa()
    source.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", "secret")
    request = Dataset()
    request.RequestedProcedureID = "P1"
    request.private_block(0x0041, "VENDOR", create=True).add_new(1, "LO", "secret")
    source.RequestAttributesSequence = [request]
    [result] = capture(source)
    assert result.RequestAttributesSequence[0].RequestedProcedureID == "P1"
    assert b"secret" not in written(result)
    assert b"VENDOR" not in written(result)
    assert request.private_block(0x0041, "VENDOR")


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("Müller^Jörg", "ISO_IR 100"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("Łukasz^Żółć", "ISO_IR 192"),
        ("Invented^Patient", None),
    ],
)
def test_names_survive_in_their_character_set(name, charset):
    source = dcmread(BytesIO(written(xa(patient_name=name, charset=charset, PerformingPhysicianName=name))))
    operator = Dataset()
    operator.InstitutionName = name.split("=")[-1].replace("^", " ")
    source.PerformingPhysicianIdentificationSequence = [operator]
    [result] = capture(source)
    assert result.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
    assert result.PatientName == name
    assert result.PerformingPhysicianName == name
    assert result.PerformingPhysicianIdentificationSequence[0].InstitutionName == operator.InstitutionName


def test_missing_identification_becomes_empty_not_invented():
    source = xa(missing=["PatientID", "PatientName", "StudyID", "StudyDate", "AccessionNumber", "InstanceNumber"])
    [result] = capture(source)
    assert result["PatientID"].is_empty
    assert result["PatientName"].is_empty
    assert result["StudyID"].is_empty
    assert result["StudyDate"].is_empty
    assert result.InstanceNumber == 1


@pytest.mark.filterwarnings("ignore")
def test_malformed_values_do_not_stop_a_result():
    source = xa()
    source["PatientSex"]._value = "unknown to the standard"
    source["StudyDate"]._value = "the sixth"
    source["SeriesNumber"]._value = None
    source["InstanceNumber"]._value = None
    [result] = capture(dcmread(BytesIO(written(source))))
    assert result.SeriesNumber == 101
    assert result.PatientID == "INVENTED-1"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_without_identity_is_declined(keyword):
    source = xa()
    made = reconstruction(source)
    delattr(source, keyword)
    with pytest.raises(UnsupportedImage, match=keyword):
        secondary_captures(source, made, route="r", mark=Mark())


def test_a_color_source_is_declined():
    source = xa()
    made = reconstruction(source)
    source.PhotometricInterpretation = "RGB"
    with pytest.raises(UnsupportedImage, match="RGB"):
        secondary_captures(source, made, route="r", mark=Mark())


def test_a_reconstruction_of_another_image_is_refused():
    with pytest.raises(ValueError, match="stored"):
        secondary_captures(xa(), reconstruction(xa(rows=32)), route="r", mark=Mark())


def test_times_are_on_the_clock_of_the_source():
    [result] = capture(xa(TimezoneOffsetFromUTC="-0330"))
    assert (result.ContentDate, result.ContentTime) == ("20240506", "033809")
    assert result.InstanceCreationTime == result.ContentTime


def test_frame_time_is_carried_over():
    [result] = capture(xa())
    assert result.FrameIncrementPointer == 0x00181063
    assert float(result.FrameTime) == 66.667
    assert (result.CineRate, result.RecommendedDisplayFrameRate, result.NumberOfFrames) == (15, 15, 4)


def test_a_frame_time_vector_is_carried_over():
    steps = [0, 60, 70.5, 80]
    [result] = capture(xa(FrameTimeVector=steps, FrameIncrementPointer=0x00181065, missing=["FrameTime"]))
    assert result.FrameIncrementPointer == 0x00181065
    assert [float(step) for step in result.FrameTimeVector] == steps
    assert "FrameTime" not in result


def test_a_frame_time_vector_of_the_wrong_length_is_replaced_by_the_frame_rate():
    [result] = capture(xa(FrameTimeVector=[0, 60], FrameIncrementPointer=0x00181065, missing=["FrameTime"]))
    assert result.FrameIncrementPointer == 0x00181063
    assert float(result.FrameTime) == pytest.approx(1000 / 15)


def test_a_cine_without_timing_is_numbered_and_claims_none():
    [result] = capture(xa(missing=["FrameTime", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"]))
    assert result.FrameIncrementPointer == 0x00182001
    assert result.PageNumberVector == [1, 2, 3, 4]
    assert "FrameTime" not in result


def test_a_single_frame_has_no_increment():
    [result] = capture(xa(frames=0))
    assert result.NumberOfFrames == 1
    assert "FrameIncrementPointer" not in result


def test_an_enhanced_source_gives_timing_and_window_from_its_functional_groups():
    source = xa(
        sop_class=EnhancedXAImageStorage,
        missing=["FrameTime", "CineRate", "RecommendedDisplayFrameRate", "WindowCenter", "WindowWidth"],
    )
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 900, 1200
    shared = Dataset()
    shared.FrameVOILUTSequence = [window]
    source.SharedFunctionalGroupsSequence = [shared]
    source.PerFrameFunctionalGroupsSequence = []
    for second in ("00", "00.1", "00.25", "00.35"):
        content = Dataset()
        content.FrameReferenceDateTime = f"202401021012{second}"
        groups = Dataset()
        groups.FrameContentSequence = [content]
        source.PerFrameFunctionalGroupsSequence.append(groups)
    [result] = capture(source)
    assert [float(step) for step in result.FrameTimeVector] == [0, 100, 150, 100]
    assert (result.WindowCenter, result.WindowWidth) == (900, 1200)


def test_rescale_and_windows_are_carried_over():
    source = xa(
        RescaleSlope=2,
        RescaleIntercept=-100,
        RescaleType="US",
        WindowCenter=[900, 50],
        WindowWidth=[1200, 70],
    )
    [result] = capture(source)
    assert (result.RescaleSlope, result.RescaleIntercept) == (2, -100)
    assert (result.WindowCenter, result.WindowWidth) == ([900, 50], [1200, 70])
    assert result.PresentationLUTShape == "IDENTITY"


def test_a_logarithmic_source_is_shown_as_stored():
    source = xa(
        PixelIntensityRelationship="LOG",
        RescaleSlope=2,
        RescaleIntercept=-100,
        RescaleType="US",
        WindowCenter=900,
    )
    [result] = capture(source)
    assert (result.RescaleSlope, result.RescaleIntercept, result.WindowCenter) == (1, 0, 900)


def shown(dataset, stored, function="LINEAR"):
    """What a viewer shows, 0 black to 1 white: rescale, then the window (C.11.2.1.2), then polarity."""
    value = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    centre_, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    if function == "LINEAR":
        grey = np.clip((value - (centre_ - 0.5)) / (width - 1) + 0.5, 0, 1)
    elif function == "LINEAR_EXACT":
        grey = np.clip((value - centre_) / width + 0.5, 0, 1)
    else:
        grey = 1 / (1 + np.exp(np.clip(-4 * (value - centre_) / width, -50, 50)))
    return 1 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([8, 10, 12, 16]),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    slope=st.sampled_from([1, 2, 0.5, -1]),
    intercept=st.sampled_from([0, -100]),
    window=st.tuples(st.integers(-300, 3000), st.integers(2, 4000)),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_every_stored_value_looks_as_in_the_source(bits, signed, photometric, slope, intercept, window, function):
    source = xa(bits_stored=bits, signed=signed, photometric=photometric, rows=16, columns=16)
    source.RescaleSlope, source.RescaleIntercept, source.RescaleType = slope, intercept, "US"
    (source.WindowCenter, source.WindowWidth), source.VOILUTFunction = window, function
    stored = np.linspace(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1, 500).round()
    for result in capture(source):
        seen = shown(result, stored, result.get("VOILUTFunction", "LINEAR"))
        assert np.abs(seen - shown(source, stored, function)).max() < 1e-6


def test_what_was_lossy_stays_lossy():
    source = xa(LossyImageCompression="01", LossyImageCompressionRatio=12, LossyImageCompressionMethod="ISO_10918_1")
    [result] = capture(source)
    assert result.LossyImageCompression == "01"
    assert result.LossyImageCompressionRatio == 12
    forgetful = xa(missing=["LossyImageCompression"])
    made = reconstruction(forgetful)
    forgetful.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
    [result] = capture(forgetful, made)
    assert result.LossyImageCompression == "01"
    assert result.LossyImageCompressionMethod == "ISO_10918_1"


@pytest.mark.parametrize(("syntax", "method"), METHODS.items(), ids=lambda value: value)
def test_a_lossy_transfer_syntax_is_told_with_its_method_and_ratio(syntax, method):
    source = xa(LossyImageCompression="00")
    made = reconstruction(source)
    source.file_meta.TransferSyntaxUID = syntax
    source.PixelData = bytes(1024)
    [result] = capture(source, made)
    assert (result.LossyImageCompression, result.LossyImageCompressionMethod) == ("01", method)
    assert result.LossyImageCompressionRatio == 24  # 4 frames of 64 x 64 pixels of 12 bits


def test_burned_in_patient_data_stay_declared():
    assert capture(xa(BurnedInAnnotation="YES"))[0].BurnedInAnnotation == "YES"
    assert capture(xa())[0].BurnedInAnnotation == "NO"


def test_neither_source_nor_reconstruction_is_changed():
    source = xa(rows=256, columns=256)
    made = reconstruction(source)
    before, stored = written(source), made.stored.copy()
    capture(source, made)
    assert written(source) == before
    assert np.array_equal(made.stored, stored)


def test_generated_pixels_are_the_reconstruction_but_for_the_mark():
    source = xa(rows=300, columns=300, frames=2)
    made = reconstruction(source)
    found = pixels(capture(source, made))
    changed = (found != made.stored).any(axis=0)
    assert changed.any()
    assert changed.mean() < 0.06
    assert not changed[measured(centre(300, 300), 1, 300, 300)[0]].any()


def test_a_mark_that_is_not_burned_in_leaves_the_pixels_as_reconstructed_and_the_header_says_who_marks_them():
    source = xa(rows=256, columns=256)
    made = reconstruction(source)
    (result,) = secondary_captures(source, made, route="r", mark=Mark(burned_in=False))
    assert np.array_equal(result.pixel_array, made.stored)
    assert "Drawn on generated pixels: nothing; the presentation state beside" in result.DerivationDescription
    assert result.BurnedInAnnotation == "NO"
