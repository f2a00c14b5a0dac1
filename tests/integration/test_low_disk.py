"""While the disk is low, what has had its days and what a crash has left go sooner."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from config.retention import RetentionSettings
from config.settings import StorageSettings
from dicom_node.audit import Action
from dicom_node.workflow.upkeep import Upkeep
from storage.audit_trail import trail
from storage.database import Database, current_time
from storage.files import ObjectStore, hold
from storage.objects import keep_object
from storage.schema import StoredObject
from tests.factory import xa
from tests.stored_jobs import received

#: A watermark in MB above every disk, and one below.
ALWAYS, NEVER = 1 << 40, 0


@pytest.mark.parametrize(("low_below_mb", "deleted"), [(ALWAYS, 1), (NEVER, 0)], ids=["low", "roomy"])
def test_what_has_had_its_days_goes_at_the_next_look_if_the_disk_is_low(
    database: Database, tmp_path: Path, low_below_mb: int, deleted: int
):
    store = ObjectStore(tmp_path / "store")
    days = RetentionSettings(originals_days=30)
    upkeep = Upkeep(database, store, StorageSettings(full_below_mb=0, low_below_mb=low_below_mb, retention=days))
    with database.transaction() as tx:
        keep_object(tx, received(store, xa(frames=1, rows=16, columns=16)))
    upkeep.look()
    assert len(list(store.files())) == 1
    with database.transaction() as tx:
        tx.execute(update(StoredObject).values(received_at=current_time(tx) - timedelta(days=31)))
    upkeep.look()
    with database.reading() as tx:
        reasons = [row.details["reason"] for row in trail(tx) if row.action == Action.OBJECT_DELETED]
    assert reasons == ["kept for 30 days"] * deleted
    assert len(list(store.files())) == 1 - deleted


@pytest.mark.parametrize(
    ("low_below_mb", "left"), [(ALWAYS, {"held"}), (NEVER, {"held", "left"})], ids=["low", "roomy"]
)
def test_what_a_crash_has_left_half_received_goes_sooner_if_the_disk_is_low(
    database: Database, tmp_path: Path, low_below_mb: int, left: set[str]
):
    store = ObjectStore(tmp_path / "store")
    upkeep = Upkeep(database, store, StorageSettings(full_below_mb=0, low_below_mb=low_below_mb))
    half_an_hour_ago = time.time() - 1800
    with (store.incoming / "held").open("wb") as received:
        hold(received)
        for path in (store.incoming / "held", store.incoming / "left"):
            path.touch()
            os.utime(path, (half_an_hour_ago, half_an_hour_ago))
        upkeep.look()
        assert {path.name for path in store.incoming.iterdir()} == left
