"""The report says in words and numbers what the picture is, as dcmtk reads it."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from config.mark import Mark
from dicom_node.objects import concepts
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.report import ReportDraft, Unmade
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from dicom_node.objects.source_faults import faults
from dicom_node.workflow.reconstruction import objects_of
from tests.factory import Box, malformed, measured, reconstruction, write, xa

DIGEST = "0123456789abcdef" * 4


def draft_of(source, aperture=None, *, mark=None, notes=(), elsewhen=None, **provenance):
    """A draft, and what goes beside the picture."""
    result = reconstruction(source, aperture, **provenance)
    if elsewhen is not None:
        result = replace(result, elsewhen=elsewhen)
    mark = mark or Mark()
    pictures = secondary_captures(source, result, route="chest", mark=mark)
    origin = Origin.of(result.provenance, route="chest", mark=mark)
    beside = presentation_states(source, pictures, result, origin=origin)
    beside.append(Segmentation(source, pictures, result, origin=origin))
    draft = ReportDraft.of(source, pictures, beside, result, origin=origin, notes=notes)
    return draft, [source, *pictures, *beside]


def report_of(source, aperture=None, **options):
    return draft_of(source, aperture, **options)[0].finished()


def items(report, name):
    """The content items of that concept name at any depth, in their order."""
    found = []
    for item in report.get("ContentSequence", ()):
        if item.ConceptNameCodeSequence[0].CodeMeaning == name.meaning:
            found.append(item)
        found += items(item, name)
    return found


def numbers(report, name):
    return [float(item.MeasuredValueSequence[0].NumericValue) for item in items(report, name)]


def texts(report, name):
    return [item.TextValue for item in items(report, name)]


def test_it_names_the_model_and_how_it_was_asked():
    report = report_of(xa(), mode="sample", seed=5)
    assert texts(report, concepts.ALGORITHM_NAME) == ["fullfield"]
    assert texts(report, concepts.ALGORITHM_VERSION) == ["1.0"]
    assert texts(report, concepts.DIGEST) == [DIGEST]
    assert numbers(report, concepts.SEED) == [5]
    (mode,) = items(report, concepts.MODE)
    assert mode.ConceptCodeSequence[0].CodeMeaning == "One draw from the posterior"


def test_the_best_estimate_has_no_seed():
    assert items(report_of(xa()), concepts.SEED) == []


def test_each_still_view_has_its_border_and_its_shares_and_so_has_the_whole():
    aperture = measured([Box(0, 0, 32, 64)] * 3 + [Box(0, 0, 16, 64)], 4, 64, 64)
    report = report_of(xa(), aperture)
    assert numbers(report, concepts.GENERATED) == [56.25, 50, 75]
    assert texts(report, concepts.FRAMES) == ["1 to 3", "4"]
    assert [item.GraphicData[2] for item in items(report, concepts.APERTURE)] == [32, 16]
    first, second = (item.ContentSequence[0].ReferencedSOPSequence[0] for item in items(report, concepts.APERTURE))
    assert (first.ReferencedFrameNumber, second.ReferencedFrameNumber) == ([1, 2, 3], 4)


def test_it_tells_how_sure_the_model_is_and_how_much_followed_the_faint_picture():
    report = report_of(xa(), residual_signal=0.4, frames_behind=7.31)
    width = 100 * float(np.float64(reconstruction(xa()).uncertainty.max()))
    assert numbers(report, concepts.WIDTH) == pytest.approx([width] * 2, abs=0.01)
    assert numbers(report, concepts.COVERAGE) == [90]
    assert numbers(report, concepts.RESIDUAL) == [40]
    assert numbers(report, concepts.FRAMES_BEHIND) == [7.3]


def test_what_was_taken_from_other_times_is_counted():
    elsewhen = np.zeros((4, 64, 64), dtype=bool)
    elsewhen[1:3, :2] = True
    report = report_of(xa(), elsewhen=elsewhen)
    assert numbers(report, concepts.FRAMES_ELSEWHEN) == [2]
    assert numbers(report, concepts.ELSEWHEN) == [pytest.approx(100 / 64, abs=0.01), 0, 3.12, 0]
    assert any("another time" in note for note in texts(report, concepts.COMMENT))


def test_it_refers_to_source_picture_segmentation_and_presentation_states():
    draft, objects = draft_of(xa(frames=3, signed=True))
    report = draft.finished()
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        (series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert listed == {(one.SeriesInstanceUID, one.SOPInstanceUID) for one in objects}
    named = [concepts.SOURCE, concepts.PICTURE, concepts.MASK, concepts.STATE]
    spoken_of = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for name in named for item in items(report, name)
    }
    assert spoken_of == {one.SOPInstanceUID for one in objects}


def test_what_was_not_reconstructed_is_told_with_its_reason():
    source = xa()
    other = Unmade(
        sop_class_uid=source.SOPClassUID,
        sop_instance_uid="1.2.3",
        series_instance_uid=source.SeriesInstanceUID,
        reason="No aperture was found in the pixels.",
    )
    report = draft_of(source)[0].finished([other])
    (reason,) = items(report, concepts.REASON)
    assert reason.TextValue == "No aperture was found in the pixels."
    assert reason.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert "1.2.3" in str(report.CurrentRequestedProcedureEvidenceSequence)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"notes": ["PatientName does not decode."]}, "PatientName does not decode."),
        ({"aperture_source": "pixels"}, "No attribute of the source stated an aperture"),
        ({"mark": Mark(burned_in=False)}, "No mark is burned into the picture"),
        ({}, "The mark in the picture reads: GENERATED - NOT MEASURED"),
    ],
)
def test_the_reader_is_told_what_else_matters(options, note):
    assert any(note in told for told in texts(report_of(xa(), **options), concepts.COMMENT))


def test_a_source_that_was_compressed_with_loss_is_told():
    source = xa(LossyImageCompression="01", LossyImageCompressionRatio=9, LossyImageCompressionMethod="ISO_10918_1")
    assert any("with loss" in told for told in texts(report_of(source), concepts.COMMENT))


@pytest.mark.filterwarnings("ignore")
def test_what_is_wrong_with_the_header_of_the_source_is_told_with_attribute_and_section():
    source = malformed(xa(missing=["PixelIntensityRelationship"]), "PatientBirthDate", "DA", "the sixth")
    malformed(source, "ClinicalTrialSponsorName", "CS", "not text")
    malformed(source, "BodyPartExamined", "CS", "Chest")
    malformed(source, "IrradiationEventUID", "UI", "1.02")
    carried = objects_of(source, reconstruction(source), route="chest", mark=Mark())
    told = texts(carried.report.finished(), concepts.COMMENT)
    assert [note for note in told if "PS3" in note] == faults(source)
    assert set(faults(source)) == {
        "PixelIntensityRelationship is missing (PS3.3 C.8.7.1).",
        "PatientBirthDate is not a date (PS3.5 6.2): left out of the result.",
        "ClinicalTrialSponsorName is not of its value representation (PS3.6 6): left out of the result.",
        "BodyPartExamined is not a code string (PS3.5 6.2): mended in the result.",
        "IrradiationEventUID is not a valid UID (PS3.5 9.1): left out of the result.",
    }


def test_the_private_scheme_is_declared_and_standard_codes_are_taken_where_there_are_any():
    report = report_of(xa())
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99FULLFIELD"
    designators = {code.CodingSchemeDesignator for code in _codes(report)}
    assert designators == {"99FULLFIELD", "DCM", "UCUM", "RFC5646"}
    assert all(len(code.CodeMeaning) <= 64 for code in _codes(report))


def _codes(dataset):
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "CodeValue" in item:
                    yield item
                yield from _codes(item)


CINES = {
    "a cine": ({}, None),
    "one frame": ({"frames": 0}, None),
    "single frames": ({"frames": 3, "signed": True}, None),
    "moving": ({}, measured([Box(8 + at, 3 + at, 40 + at, 50) for at in range(4)], 4, 64, 64)),
    "Latin 1": ({"patient_name": "Müller^Jörg", "charset": "ISO_IR 100"}, None),
    "Japanese": ({"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう", "charset": ["", "ISO 2022 IR 87"]}, None),
}


@pytest.mark.parametrize(("cine", "aperture"), CINES.values(), ids=CINES)
def test_dcmtk_reads_it_without_a_warning(cine, aperture, tmp_path):
    path = write(report_of(xa(**cine), aperture), tmp_path / "report.dcm")
    told = subprocess.run(["dsrdump", "--print-long-values", path], capture_output=True, check=True)
    # That dcmtk's check of values does not know ISO 2022 is said of each object in it, the source too.
    assert [line for line in told.stderr.splitlines() if b"ISO 2022" not in line] == []
    assert DIGEST.encode() in told.stdout
    assert dcmread(path).PatientName == xa(**cine).PatientName


def test_a_thousand_frames_with_an_aperture_each_make_a_report_of_two_megabytes_at_most(tmp_path):
    boxes = [Box(8 + at % 7, 8 + at % 5, 50, 50) for at in range(1000)]
    source = xa(frames=1000, attributes_say="nothing")
    path = write(report_of(source, measured(boxes, 1000, 64, 64)), tmp_path / "report.dcm")
    assert path.stat().st_size < 2_000_000


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    draft, _ = draft_of(xa())
    one, other = (write(draft.finished(), tmp_path / f"{name}.dcm").read_bytes() for name in ("one", "other"))
    assert one == other
