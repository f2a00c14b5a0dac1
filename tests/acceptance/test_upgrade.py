"""A node of this version starts on what the first version left, and brings its work to the PACS."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from storage.files import ObjectStore
from storage.transitions import JobState
from tests.commands import Command
from tests.factory import write, xa
from tests.first_version import NOON, audit, delivery, job, kept, leave
from tests.hospital import PACS, Hospital, shows
from tests.nodes import NodeProcess
from tests.peers import orthanc


def test_what_was_queued_running_and_delivering_reaches_the_pacs(tmp_path: Path, fullfield: Command) -> None:
    with orthanc(tmp_path / "pacs", ae_title=PACS) as pacs:
        node = NodeProcess(tmp_path / "node", {"pacs": pacs.port}, titles={"pacs": PACS})
        queued, delivering, running, result = (
            write(xa(frames=2, seed=number), tmp_path / f"{number}.dcm") for number in range(4)
        )
        database = node.database()
        leave(
            database,
            [
                ("jobs", of(queued, 1, JobState.QUEUED)),
                ("jobs", of(delivering, 2, JobState.DELIVERING, attempts=1, progress=1.0, model_digest="2" * 64)),
                ("jobs", of(running, 3, JobState.RUNNING, attempts=1, lease_owner="old:11112/1", lease_until=NOON)),
                *[
                    ("objects", stored(node, file, number))
                    for number, file in enumerate((queued, delivering, running), 1)
                ],
                ("objects", stored(node, result, 4, job=2, kind="result")),
                ("deliveries", delivery(1, job_id=2, object_id=4)),
                *[("audit", row) for row in audit()],
            ],
        )
        database.close()
        here = Hospital(tmp_path, node, pacs)
        with node.running():
            jobs = node.wait_until_settled(3)
            assert [(done.state, done.attempts) for done in jobs] == [
                (JobState.DELIVERED, 1),
                (JobState.DELIVERED, 1),
                (JobState.DELIVERED, 2),
            ]
            assert all(shows(here.result(cine), cine) for cine in (queued, running))
            assert here.result(result).SOPInstanceUID == dcmread(result).SOPInstanceUID
            assert here.goes_through()
        status, out, _ = fullfield("audit", "--verify", "--settings", node.settings)
        assert (status, out.partition(":")[0]) == (0, "The audit trail is whole")
        assert [row.hash for row in node.audit()[: len(audit())]] == [row["hash"] for row in audit()]


def of(cine: Path, number: int, state: JobState, **columns: object) -> dict[str, object]:
    """The row of a job that takes in a cine."""
    return job(number, state, **uids(dcmread(cine), "study", "series"), **columns)


def stored(
    node: NodeProcess, file: Path, number: int, job: int | None = None, kind: str = "original"
) -> dict[str, object]:
    """The row of an object, whose file is in the node's store from now on."""
    dataset = dcmread(file)
    held = ObjectStore(node.folder / "var").write(file.read_bytes())
    return kept(
        number,
        job or number,
        kind,
        digest=held.digest,
        size=held.size,
        frames=2,
        transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
        **uids(dataset, "study", "series", "sop"),
    )


def uids(dataset: Dataset, *levels: str) -> dict[str, object]:
    """Columns of UIDs."""
    keywords = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "sop": "SOPInstanceUID"}
    return {f"{level}_instance_uid": str(dataset[keywords[level]].value) for level in levels}
