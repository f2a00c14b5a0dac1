"""The main job, whole: storescu pushes the sample, and Orthanc ends up with its full field. On both databases."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from dicom_node.commands.demo import SAMPLE
from inference.weights import digest_of
from storage.transitions import JobState
from tests.commands import Command
from tests.databases import postgresql_database
from tests.hospital import PACS, RESULTS, Hospital, aperture_of, hospital
from tests.peers import wait_until


@dataclass(frozen=True)
class Day:
    """What a day's work has left: the cine that was pushed, and what the PACS has of its study."""

    here: Hospital
    source: Dataset
    result: Dataset
    segmentation: Dataset
    states: list[Dataset]
    report: Dataset


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("hospital")
    if request.param == "sqlite":
        with hospital(folder) as here:
            yield _work(here)
        return
    with (
        postgresql_database(request.getfixturevalue("postgresql_server")) as url,
        hospital(folder, database=url) as here,
    ):
        yield _work(here)


def _work(here: Hospital) -> Day:
    assert here.push(SAMPLE, "-xv").accepted
    result = here.result(SAMPLE)
    (segmentation,) = wait_until(lambda: here.segmentations(SAMPLE), what="the segmentation in the PACS")
    (report,) = wait_until(lambda: here.beside(SAMPLE, "SR"), what="the report in the PACS")
    states = sorted(here.beside(SAMPLE, "PR"), key=lambda state: str(state.ContentLabel))
    return Day(here, dcmread(SAMPLE), result, segmentation, states, report)


def test_the_pacs_has_exactly_one_picture_and_what_goes_beside_it_in_a_series_each(day: Day) -> None:
    (study,) = day.here.pacs.get("/studies?expand")
    assert study["MainDicomTags"]["StudyInstanceUID"] == day.source.StudyInstanceUID
    series = [day.here.pacs.get(f"/series/{known}") for known in study["Series"]]
    held = {one["MainDicomTags"]["Modality"]: len(one["Instances"]) for one in series}
    assert held == {day.source.Modality: 1, "SEG": 1, "PR": 2, "SR": 1}
    assert len(series) == 4
    assert day.source.SeriesInstanceUID not in {one["MainDicomTags"]["SeriesInstanceUID"] for one in series}


def test_measured_pixels_are_bit_exact_and_the_others_generated(day: Day) -> None:
    before, after = day.source.pixel_array, day.result.pixel_array
    inside = aperture_of(day.source)
    assert after.shape == before.shape == (24, 512, 512)
    assert (after[:, inside] == before[:, inside]).all()
    for frame in range(len(before)):
        assert (after[frame, ~inside] != before[frame, ~inside]).mean() > 0.9


def test_the_segmentation_tells_of_each_frame_of_the_picture_what_was_generated(day: Day) -> None:
    segmentation = day.segmentation
    assert np.array_equal(segmentation.pixel_array, np.broadcast_to(~aperture_of(day.source), (24, 512, 512)))
    for number, groups in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
        for image, told in zip(
            (day.result, day.source), groups.DerivationImageSequence[0].SourceImageSequence, strict=True
        ):
            assert (told.ReferencedSOPInstanceUID, told.ReferencedFrameNumber) == (image.SOPInstanceUID, number)


def test_the_presentation_states_mark_what_was_generated_or_hide_it(day: Day) -> None:
    marked, only = day.states
    assert [marked.ContentLabel, only.ContentLabel] == ["GENERATED_MARKED", "MEASURED_ONLY"]
    rows, columns = np.nonzero(aperture_of(day.source))
    (annotation,) = marked.GraphicAnnotationSequence
    (border,) = annotation.GraphicObjectSequence
    corners = np.reshape(border.GraphicData, (-1, 2))
    assert corners.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert corners.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    assert only.ShutterLeftVerticalEdge == columns.min() + 1
    for state in day.states:
        (image,) = state.ReferencedSeriesSequence[0].ReferencedImageSequence
        assert image.ReferencedSOPInstanceUID == day.result.SOPInstanceUID


def test_the_report_names_the_model_and_all_that_it_speaks_of(day: Day) -> None:
    assert digest_of("fullfield") in day.report.to_json()
    (study,) = day.report.CurrentRequestedProcedureEvidenceSequence
    named = {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    spoken_of = [day.source, day.result, day.segmentation, *day.states]
    assert named == {str(dataset.SOPInstanceUID) for dataset in spoken_of}


def test_generated_pixels_are_marked_in_the_header(day: Day) -> None:
    result, digest = day.result, digest_of("fullfield")
    assert result.SOPClassUID == MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    assert result.SyntheticData == "YES"
    assert list(result.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert digest in result.DerivationDescription
    assert result.DerivationCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == day.source.SOPInstanceUID
    maker = result.ContributingEquipmentSequence[-1]
    assert maker.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Synthesizing Equipment"
    assert maker.ManufacturerModelName == "fullfield"
    assert digest in maker.SoftwareVersions


def test_the_patient_and_the_timing_are_those_of_the_source(day: Day) -> None:
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "Modality", "FrameTime"):
        assert day.result[keyword].value == day.source[keyword].value


def test_the_audit_trail_tells_the_whole_story(day: Day, fullfield: Command) -> None:
    _wait_until_delivered(day.here)
    study, settings = day.source.StudyInstanceUID, day.here.node.settings
    status, out, _ = fullfield("audit", "--study", study, "--json", "--settings", settings)
    rows = json.loads(out)
    assert status == 0
    # Another test may have pushed the sample again.
    assert [row["action"] for row in rows if row["action"] != "object_repeated"] == [
        "object_received",
        "route_matched",
        "job_queued",
        "job_started",
        *["reconstructed"] * RESULTS,
        *["delivered"] * RESULTS,
        "job_delivered",
    ]
    told = {row["action"]: row for row in rows}
    assert (told["object_received"]["peer_ae"], told["delivered"]["peer_ae"]) == ("CARM1", PACS)
    assert told["object_received"]["sop_instance_uid"] == day.source.SOPInstanceUID
    # The picture goes first, for the others refer to it, and last the report, which refers to all of them.
    delivered = [row["sop_instance_uid"] for row in rows if row["action"] == "delivered"]
    assert (delivered[0], delivered[-1]) == (day.result.SOPInstanceUID, day.report.SOPInstanceUID)
    assert told["reconstructed"]["model_digest"] == digest_of("fullfield")
    assert {"seed", "mode", "device", "digest"} <= told["reconstructed"]["details"].keys()


def test_the_story_can_be_read_by_a_person_and_is_whole(day: Day, fullfield: Command) -> None:
    _wait_until_delivered(day.here)
    study, settings = day.source.StudyInstanceUID, day.here.node.settings
    status, out, _ = fullfield("audit", "--study", study, "--verify", "--settings", settings)
    assert status == 0
    assert "The audit trail is whole" in out
    for words in ("received from CARM", "queued a job", "reconstructed", f"delivered to {PACS}"):
        assert words in " ".join(out.split())


def test_the_log_tells_neither_patient_nor_uid(day: Day) -> None:
    log = day.here.node.log.read_text()
    assert "delivered" in log
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber"):
        assert str(day.source[keyword].value) not in log
    assert "Phantom" not in log


def test_the_same_object_again_makes_no_second_result(day: Day) -> None:
    _wait_until_delivered(day.here)
    assert day.here.push(SAMPLE, "-xv").accepted
    assert [row.action for row in day.here.node.audit()].count("object_repeated") == 1
    assert len(day.here.node.jobs()) == 1
    assert len(day.here.pacs.get("/instances")) == RESULTS
    assert day.here.goes_through()


def _wait_until_delivered(here: Hospital) -> None:
    """The PACS has a result a moment before the node has noted its answer."""
    wait_until(lambda: here.node.jobs()[0].state == JobState.DELIVERED, what="the delivery to be noted")
