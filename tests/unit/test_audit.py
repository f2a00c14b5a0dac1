"""The audit trail's vocabulary and how it reads."""

import io

import pytest
from pydicom.uid import JPEGLosslessSV1
from rich.console import Console

from dicom_node.audit import Action, record, sentence, story
from storage.audit_trail import trail, verify
from storage.database import Database


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}")
    database.migrate()
    yield database
    database.close()


def recorded(database, action, **told):
    with database.transaction() as tx:
        return record(tx, action, actor="listener", **told)


def test_a_step_is_a_success_unless_said_otherwise(database):
    assert recorded(database, Action.NODE_STARTED).outcome == "success"
    assert recorded(database, Action.OBJECT_REFUSED, outcome="refused").outcome == "refused"


def test_a_step_is_in_the_trail_with_all_that_was_told(database):
    told = {
        "peer_ae": "CARM",
        "peer_address": "10.1.2.3",
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.1",
        "sop_instance_uid": "1.2.1.1",
        "job_id": 7,
        "model_digest": "ab" * 32,
        "details": {"seed": 5},
    }
    recorded(database, Action.RECONSTRUCTED, **told)
    with database.reading() as tx:
        (row,) = trail(tx, study="1.2")
        assert row.action == "reconstructed"
        assert {name: getattr(row, name) for name in told} == told
        assert verify(tx) == 1


def test_a_step_that_is_rolled_back_leaves_no_row(database):
    with pytest.raises(RuntimeError), database.transaction() as tx:
        record(tx, Action.JOB_QUEUED, actor="listener")
        raise RuntimeError
    with database.reading() as tx:
        assert trail(tx) == []


@pytest.mark.parametrize("action", list(Action))
def test_every_action_has_words_for_people(database, action):
    said = sentence(recorded(database, action, outcome="failed"))
    assert "_" not in said
    assert said


def test_a_sentence_tells_who_what_and_why(database):
    row = recorded(
        database,
        Action.OBJECT_REFUSED,
        outcome="refused",
        peer_ae="CARM",
        peer_address="10.1.2.3",
        sop_instance_uid="1.2.3",
        details={"reason": "The disk is nearly full.", "status": "0xA700", "association": "f00"},
    )
    assert sentence(row) == (
        "refused an object from CARM at 10.1.2.3 object 1.2.3: The disk is nearly full. [status 0xA700]"
    )


def test_a_sentence_names_transfer_syntaxes_and_shortens_digests(database):
    details = {"transfer_syntax_uid": JPEGLosslessSV1, "digest": "ab" * 32}
    said = sentence(recorded(database, Action.OBJECT_RECEIVED, details=details))
    assert said.endswith(
        "transfer syntax JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])]"
    )
    assert "[digest abababababab, " in said


def test_a_story_has_a_line_for_each_step_in_order(database):
    uid = "1.2.826.0.1.3680043.8.498.82818837369300810978118888888888888888"
    rows = [
        recorded(database, Action.OBJECT_RECEIVED, sop_instance_uid=uid),
        recorded(database, Action.JOB_QUEUED, job_id=3),
        recorded(database, Action.JOB_DECLINED, job_id=3, details={"reason": "No [aperture] was found."}),
    ]
    page = io.StringIO()
    Console(file=page, width=200).print(story(rows))
    told = page.getvalue()
    assert told.index("received") < told.index("queued a job (job 3)") < told.index("No [aperture] was found.")
    assert uid in told
