"""`fullfield audit`: the story of a study, and whether anybody has touched the trail."""

import json
import sqlite3

import pytest

from dicom_node.audit import Action, record
from storage.database import Database

STUDY = "1.2.840.99999.1"


@pytest.fixture
def node(tmp_path):
    """The database of a node that has received a study, worked on it and delivered it."""
    (tmp_path / "fullfield.toml").write_text('[storage]\nroot = "."\n')
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}")
    database.migrate()
    with database.transaction() as tx:
        record(tx, Action.NODE_STARTED, actor="node")
        record(
            tx,
            Action.OBJECT_RECEIVED,
            actor="listener",
            peer_ae="CARM1",
            peer_address="10.1.2.3",
            study_instance_uid=STUDY,
            sop_instance_uid=f"{STUDY}.1.1",
        )
        record(tx, Action.JOB_STARTED, actor="worker", study_instance_uid=STUDY, job_id=7)
        record(
            tx,
            Action.DELIVERED,
            actor="delivery",
            peer_ae="PACS",
            study_instance_uid=STUDY,
            job_id=7,
            model_digest="f" * 64,
        )
    yield database
    database.close()


def test_a_study_is_told_from_reception_to_delivery(fullfield, node):  # noqa: ARG001
    status, out, _ = fullfield("audit", "--study", STUDY)
    header, received, started, delivered = out.splitlines()
    assert status == 0
    assert header.split() == ["time", "who", "what"]
    assert f"listener  received from CARM1 at 10.1.2.3 object {STUDY}.1.1" in received
    assert "worker" in started and "started the job (job 7)" in started
    assert "delivered to PACS (job 7) model ffffffffffff" in delivered


def test_a_job_is_told_alone(fullfield, node):  # noqa: ARG001
    rows = json.loads(fullfield("audit", "--job", 7, "--json")[1])
    assert [row["action"] for row in rows] == ["job_started", "delivered"]
    assert rows[1]["peer_ae"] == "PACS" and rows[1]["at"].endswith("+00:00")


def test_without_a_choice_the_newest_steps_are_told(fullfield, node):  # noqa: ARG001
    assert len(fullfield("audit")[1].splitlines()) == 5
    assert len(fullfield("audit", "--limit", 1)[1].splitlines()) == 2


def test_a_study_of_which_nothing_is_known_is_one_clear_line(fullfield, node):  # noqa: ARG001
    assert fullfield("audit", "--study", "1.9") == (1, "", "fullfield: The audit trail tells nothing of study 1.9.\n")


def test_an_untouched_trail_is_whole(fullfield, node):  # noqa: ARG001
    said = "The audit trail is whole: 4 rows, each chained to the one before.\n"
    assert fullfield("audit", "--verify") == (0, said, "")
    status, out, err = fullfield("audit", "--study", STUDY, "--verify", "--json")
    assert (status, err, len(json.loads(out))) == (0, said, 3)


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        (
            "UPDATE audit SET peer_ae = 'OTHER' WHERE id = 2",
            "Row 2 of the audit trail was changed after it was written.",
        ),
        ("DELETE FROM audit WHERE id = 3", "Row 3 of the audit trail is missing."),
    ],
)
def test_tampering_past_the_triggers_is_found(fullfield, node, tmp_path, tampering, said):
    node.close()
    with sqlite3.connect(tmp_path / "fullfield.db") as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(tampering)
    connection.close()
    assert fullfield("audit", "--study", STUDY, "--verify") == (1, "", f"fullfield: {said}\n")
