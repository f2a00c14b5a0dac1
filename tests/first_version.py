"""What the first version left in a database: its schema, and rows as it wrote them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from alembic import command
from sqlalchemy import MetaData, insert

from storage import migrations
from storage.database import Database
from storage.transitions import JobState

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)

#: A route as a job of the first version carries it.
SETTINGS = {
    "name": "thorax",
    "match": {"calling_ae": [], "called_ae": [], "modality": [], "attributes": []},
    "complete": "multiframe",
    "quiet_seconds": 10.0,
    "profile": "fullfield",
    "mode": "mean",
    "mark": {"border": "solid", "label": "GENERATED - NOT MEASURED", "position": "auto", "contrast": "auto"},
    "segmentation": True,
    "destinations": ["pacs"],
    "priority": 50,
}


def leave(database: Database, rows: Iterable[tuple[str, dict[str, object]]]) -> None:
    """Give a new database the first version's schema, and rows: each with the name of its table."""
    with database.transaction() as tx:
        config = migrations._alembic()
        config.attributes["connection"] = tx.connection()
        command.upgrade(config, "0001")
    with database.transaction() as tx:
        tables = MetaData()
        tables.reflect(tx.connection())
        for name, row in rows:
            tx.execute(insert(tables.tables[name]).values(**row))


OF_SERIES = {"study_instance_uid": "1.2", "last_received_at": NOON, "due_at": NOON}


def job(number: int, state: JobState, **columns: object) -> dict[str, object]:
    """A row of a job; columns: those that are not as in any other."""
    return {
        "id": number,
        "route": "thorax",
        "profile": "fullfield",
        "mode": "mean",
        "series_instance_uid": f"1.2.{number}",
        "study_instance_uid": "1.2",
        "state": state.value,
        "priority": 50,
        "attempts": 0,
        "max_attempts": 3,
        "not_before": NOON,
        "lease_token": 0,
        "progress": 0.0,
        "settings": SETTINGS,
        "created_at": NOON,
        "updated_at": NOON,
    } | columns


def kept(number: int, job_id: int | None, kind: str, **columns: object) -> dict[str, object]:
    """A row of an object."""
    return {
        "id": number,
        "sop_instance_uid": f"1.2.3.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.12.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": "1.2",
        "series_instance_uid": f"1.2.{number}",
        "modality": "XA",
        "frames": 16,
        "digest": f"{number:064x}",
        "size": 1000,
        "kind": kind,
        "calling_ae": "CARM",
        "called_ae": "FULLFIELD",
        "peer_address": "10.0.0.7",
        "received_at": NOON,
        "job_id": job_id,
    } | columns


def delivery(number: int, *, job_id: int, object_id: int) -> dict[str, object]:
    """A row of a delivery that waits."""
    return {
        "id": number,
        "job_id": job_id,
        "object_id": object_id,
        "destination": "pacs",
        "state": "waiting",
        "attempts": 0,
        "not_before": NOON,
        "created_at": NOON,
    }


def audit() -> list[dict[str, object]]:
    """Rows of the audit trail, with the hashes that the first version's code gave them."""
    of_job = {"actor": "series", "study_instance_uid": "1.2", "series_instance_uid": "1.2.1", "job_id": 1}
    peer = {"actor": "listener", "peer_ae": "CARM", "peer_address": "10.0.0.7", "study_instance_uid": "1.2"}
    told: list[tuple[float, str, dict[str, object]]] = [
        (
            1.5,
            "node_started",
            {"actor": "node", "details": {"node": "old:11112", "port": 11112, "routes": ["thorax"]}},
        ),
        (
            3,
            "object_received",
            {
                **peer,
                "series_instance_uid": "1.2.1",
                "sop_instance_uid": "1.2.3.1",
                "details": {"bytes": 1000, "digest": "1" * 64},
            },
        ),
        (4.5, "job_queued", {**of_job, "details": {"objects": 1, "route": "thorax"}}),
        (
            6,
            "job_started",
            {
                "actor": "worker",
                "study_instance_uid": "1.2",
                "series_instance_uid": "1.2.3",
                "job_id": 3,
                "details": {"attempt": 1, "worker": "old:11112/1"},
            },
        ),
    ]
    hashes = [
        "0" * 64,
        "977af40a3fd995e76e3322ba22bcc1493b564a4aca0349f00be44bf98e8c2950",
        "fec74c26b8af7eebacb6df9e6b8c410d42cea6c8f3333f4b7bcb35a5f1002f16",
        "74fbf2744bb061e77b93acd074d2937284d09f39e35aab4863b561f483f0afd3",
        "7970ab503747c8012d16693e0c3bb7ccef83e6c1a4ac97ba67c7b2aa10bd40fe",
    ]
    return [
        {
            "id": number,
            "at": NOON + timedelta(seconds=after),
            "action": action,
            "outcome": "success",
            "previous_hash": hashes[number - 1],
            "hash": hashes[number],
        }
        | columns
        for number, (after, action, columns) in enumerate(told, start=1)
    ]
