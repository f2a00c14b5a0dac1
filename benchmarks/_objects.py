"""A store with many small objects, put straight into files and rows: how they come there is another benchmark's."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import insert

from storage.database import Database
from storage.files import ObjectStore
from storage.schema import StoredObject
from storage.states import ObjectKind


def fill(database: Database, store: ObjectStore, count: int, size: int, *, old: int = 0) -> None:
    """So many originals of `size` bytes, received yesterday, the first `old` of them a hundred days ago."""
    now = datetime.now(UTC)
    rows = []
    for number in range(count):
        content = number.to_bytes(8, "big") * (size // 8)
        digest = sha256(content).hexdigest()
        store.path(digest).parent.mkdir(parents=True, exist_ok=True)
        store.path(digest).write_bytes(content)
        received = now - timedelta(days=100 if number < old else 1)
        rows.append(
            {
                "sop_instance_uid": f"1.2.3.{number}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.12.1",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "study_instance_uid": f"1.2.{number // 50}",
                "series_instance_uid": f"1.2.3.{number // 10}",
                "modality": "XA",
                "frames": 1,
                "digest": digest,
                "size": len(content),
                "kind": ObjectKind.ORIGINAL,
                "calling_ae": "CARM",
                "called_ae": "FULLFIELD",
                "peer_address": "127.0.0.1",
                "received_at": received,
                "verified_at": received,
            }
        )
    with database.transaction() as tx:
        tx.execute(insert(StoredObject), rows)
