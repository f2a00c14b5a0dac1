"""Performed procedure steps: the end of one closes its series, and what a modality reports is kept or refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.sop_class import ModalityPerformedProcedureStepRetrieve

from storage.procedure_steps import procedure_steps_of
from storage.schema import AuditRow, Job, ProcedureStep
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu
from tests.procedure_steps import begun, ended, reporting


class Here:
    """A node whose route waits for ten minutes of quiet, and a study that nobody has seen yet."""

    def __init__(self, node: NodeProcess, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self.study, self.series = generate_uid(), generate_uid()

    def push(self, *uids: str, series: str | None = None) -> None:
        """Send single frames with dcmtk's storescu."""
        paths = [
            write(
                xa(
                    frames=1,
                    sop_instance_uid=uid,
                    study_instance_uid=self.study,
                    series_instance_uid=series or self.series,
                ),
                self.folder / f"{uid}.dcm",
            )
            for uid in uids
        ]
        assert storescu(self.node.port, *paths, calling="CARM1").accepted

    def jobs(self) -> list[Job]:
        return [job for job in self.node.jobs() if job.study_instance_uid == self.study]

    def rows(self, action: str) -> list[AuditRow]:
        return [row for row in self.node.audit() if (row.study_instance_uid, row.action) == (self.study, action)]

    def refusal(self, uid: str | None) -> str:
        """What the audit trail says of a refusal."""
        (row,) = [row for row in self.node.audit() if (row.sop_instance_uid, row.outcome) == (uid, "refused")]
        assert row.action == "procedure_step_refused"
        return str(row.details["reason"])

    def step(self) -> ProcedureStep:
        database = self.node.database()
        with database.reading() as tx:
            (step,) = procedure_steps_of(tx, self.study)
        database.close()
        return step


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    route = {"complete": "quiet", "quiet_seconds": 600}
    folder = tmp_path_factory.mktemp("node")
    node = NodeProcess(folder, {"pacs": free_port()}, route=route, worker={"processes": 0})
    with node.running():
        yield node


@pytest.fixture
def here(node: NodeProcess, tmp_path: Path) -> Here:
    return Here(node, tmp_path)


def uids(number: int) -> list[str]:
    return [generate_uid() for _ in range(number)]


# The end of a step


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_the_end_of_a_step_queues_its_series_at_once(here: Here, status: str) -> None:
    frames = uids(3)
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        here.push(*frames)
        assert here.jobs() == []
        assert step.set(ended({here.series: frames}, status)).Status == 0
    (job,) = here.jobs()
    assert job.series_instance_uid == here.series
    (completed,) = here.rows("series_completed")
    assert completed.details["reason"] == "its procedure step ended, and all of it is here"
    assert completed.details["objects"] == 3


def test_a_series_whose_objects_are_not_named_is_closed_with_what_is_there(here: Here) -> None:
    with reporting(here.node.port) as step:
        here.push(*uids(2))
        assert step.create(begun(here.study)).Status == 0
        assert step.set(ended({here.series: []})).Status == 0
    assert len(here.jobs()) == 1


@pytest.mark.parametrize("before", [0, 2])
def test_the_last_announced_object_closes_a_series_that_had_not_all_arrived(here: Here, before: int) -> None:
    frames = uids(4)
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        if before:
            here.push(*frames[:before])
        assert step.set(ended({here.series: frames})).Status == 0
    here.push(*frames[before:3])
    assert here.jobs() == []
    here.push(frames[3])
    assert len(here.jobs()) == 1
    (completed,) = here.rows("series_completed")
    assert completed.details["objects"] == 4


def test_what_comes_after_the_end_is_a_job_of_its_own(here: Here) -> None:
    first, late = uids(2), uids(1)
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        here.push(*first)
        assert step.set(ended({here.series: first})).Status == 0
    here.push(*late)
    assert len(here.jobs()) == 1
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        assert step.set(ended({here.series: late})).Status == 0
    assert len(here.jobs()) == 2


def test_each_series_of_a_step_is_closed_by_itself(here: Here) -> None:
    first, second = uids(2)
    other = generate_uid()
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        here.push(first)
        assert step.set(ended({here.series: [first], other: [second]})).Status == 0
    assert [job.series_instance_uid for job in here.jobs()] == [here.series]
    here.push(second, series=other)
    assert {job.series_instance_uid for job in here.jobs()} == {here.series, other}


# What is kept


def test_all_that_was_reported_is_kept_with_the_study_in_unicode(here: Here) -> None:
    private = begun(here.study)
    private.private_block(0x0029, "MAKER", create=True).add_new(0x01, "LO", "of its own")
    with reporting(here.node.port) as step:
        assert step.create(private).Status == 0
        update = Dataset()
        update.SpecificCharacterSet = "ISO_IR 192"
        update.PerformedProcedureStepDescription = "Herzkatheter ♥"
        assert step.set(update).Status == 0
        assert here.step().status == "IN PROGRESS"
        assert step.set(ended({here.series: []})).Status == 0
    kept = here.step()
    assert (kept.sop_instance_uid, kept.status, kept.calling_ae) == (step.uid, "COMPLETED", "CARM1")
    assert kept.ended_at is not None
    told = Dataset.from_json(kept.attributes)
    assert str(told.PatientName) == "Müller^Test"
    assert told.PerformedProcedureStepDescription == "Herzkatheter ♥"
    assert told.PerformedProcedureStepEndTime == "080500"
    assert told.PerformedSeriesSequence[0].SeriesInstanceUID == here.series
    assert told[0x0029, 0x1001].value == b"of its own"
    assert [row.details["status"] for row in here.rows("procedure_step_updated")] == ["IN PROGRESS"]
    assert len(here.rows("procedure_step_created")) == len(here.rows("procedure_step_ended")) == 1


def test_a_step_without_a_uid_is_given_one(here: Here) -> None:
    with reporting(here.node.port, uid=None) as step:
        assert step.create(begun(here.study)).Status == 0
        assert step.uid == here.step().sop_instance_uid
        assert step.set(ended({here.series: []})).Status == 0


# What is refused


def test_a_second_step_under_one_uid_is_refused(here: Here) -> None:
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        assert step.create(begun(here.study)).Status == 0x0111


def test_an_unknown_step_cannot_be_updated(here: Here) -> None:
    with reporting(here.node.port) as step:
        assert step.set(ended({here.series: []})).Status == 0x0112


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_an_ended_step_may_no_longer_be_updated(here: Here, status: str) -> None:
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        assert step.set(ended({here.series: []}, status)).Status == 0
        answer = step.set(ended({generate_uid(): []}))
    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert answer.ErrorComment == "Performed Procedure Step Object may no longer be updated"
    (kept,) = Dataset.from_json(here.step().attributes).PerformedSeriesSequence
    assert kept.SeriesInstanceUID == here.series


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        ({"missing": ["PerformedStationAETitle"]}, 0x0120, "PerformedStationAETitle is missing."),
        ({"missing": ["ScheduledStepAttributesSequence"]}, 0x0120, "ScheduledStepAttributesSequence is missing."),
        ({"ScheduledStepAttributesSequence": []}, 0x0121, "ScheduledStepAttributesSequence is empty."),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0120, "StudyInstanceUID is missing."),
        ({"Modality": ""}, 0x0121, "Modality is empty."),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106, "is not IN PROGRESS at first."),
        ({"PerformedProcedureStepStatus": "SCHEDULED"}, 0x0106, "is none of IN PROGRESS, COMPLETED, DISCONTINUED."),
    ],
)
def test_a_step_that_begins_wrongly_is_refused(here: Here, wrong: dict, status: int, said: str) -> None:
    with reporting(here.node.port) as step:
        answer = step.create(begun(here.study, **wrong))
        assert answer.Status == status
        assert said[:40] in here.refusal(step.uid)
        assert answer.ErrorComment == here.refusal(step.uid)[:64].strip()
        assert step.create(begun(here.study)).Status == 0


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        ({"missing": ["PerformedProcedureStepEndDate"]}, 0x0121, "PerformedProcedureStepEndDate is empty."),
        ({"missing": ["PerformedSeriesSequence"]}, 0x0121, "PerformedSeriesSequence is empty."),
        ({"PerformedProcedureStepStatus": "DONE"}, 0x0106, "is none of IN PROGRESS, COMPLETED, DISCONTINUED."),
        ({"PatientID": "another"}, 0x0105, "PatientID cannot be changed."),
    ],
)
def test_a_step_that_ends_wrongly_stays_as_it_was(here: Here, wrong: dict, status: int, said: str) -> None:
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study)).Status == 0
        answer = step.set(ended({here.series: []}, **wrong))
        assert answer.Status == status
        assert said in here.refusal(step.uid)
        assert here.step().status == "IN PROGRESS"
        assert step.set(ended({here.series: []})).Status == 0


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PerformedProcedureStepStartDate", b"20261341"), ("PerformedProcedureStepStartTime", b"29:00 ")],
)
def test_dates_and_times_that_are_none_are_refused(here: Here, keyword: str, value: bytes) -> None:
    wrong = begun(here.study)
    wrong[keyword]._value = value.decode()
    with reporting(here.node.port) as step:
        answer = step.create(wrong)
        assert answer.Status == 0x0106
        assert answer.ErrorComment.startswith(keyword)


def test_an_empty_data_set_and_another_sop_class_are_refused(here: Here) -> None:
    with reporting(here.node.port) as step:
        assert step.create(None).Status == 0x0120
        assert step.create(begun(here.study), ModalityPerformedProcedureStepRetrieve).Status == 0x0118
        assert step.create(begun(here.study)).Status == 0


def test_a_data_set_too_large_for_a_step_is_refused_whole(here: Here) -> None:
    with reporting(here.node.port) as step:
        assert step.create(begun(here.study, CommentsOnThePerformedProcedureStep="x" * (5 << 20))).Status == 0x0213
        assert step.create(begun(here.study)).Status == 0
