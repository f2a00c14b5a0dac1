"""Which workers hang, by the leases of their jobs, on SQLite and on PostgreSQL."""

from dicom_node.workflow.watchdog import Watchdog
from storage.database import Database
from storage.queue import Lease, claim, heartbeat, overdue
from tests.jobs import queued
from tests.peers import wait_until

LEASE = 0.2
#: Processes of workers.
ONE, TWO, ANOTHER = 101, 102, 103


def hung(database: Database, watchdog: Watchdog, **workers: int) -> list[str]:
    with database.reading() as tx:
        return watchdog.hung(tx, workers)


def begin(database: Database, *owners: str) -> dict[str, Lease]:
    """Each of the workers takes a job, and does not renew its lease."""
    with database.transaction() as tx:
        for number in range(len(owners)):
            queued(tx, number)
        leases = {owner: claim(tx, owner=owner, lease_seconds=60)[1] for owner in owners}
        for lease in leases.values():
            heartbeat(tx, lease, lease_seconds=LEASE, progress=0)
    return leases


def test_a_worker_that_lets_its_lease_run_out_and_does_nothing_hangs(database):
    watchdog = Watchdog(LEASE)
    assert hung(database, watchdog, one=ONE) == []
    begin(database, "one")
    assert hung(database, watchdog, one=ONE) == []
    assert wait_until(lambda: hung(database, watchdog, one=ONE)) == ["one"]


def test_a_worker_that_renews_its_lease_too_late_each_time_does_not_hang(database):
    watchdog = Watchdog(LEASE)
    hung(database, watchdog, one=ONE, two=TWO)
    late = begin(database, "one", "two")["one"]

    def look():
        with database.transaction() as tx:
            found = watchdog.hung(tx, {"one": ONE, "two": TWO})
            if overdue(tx, ["one"]):
                heartbeat(tx, late, lease_seconds=LEASE, progress=0)
        return found

    assert wait_until(look) == ["two"]


def test_a_job_left_by_a_dead_process_is_not_held_against_the_one_in_its_place(database):
    watchdog = Watchdog(LEASE)
    hung(database, watchdog, one=ONE, two=TWO)
    begin(database, "one", "two")
    assert wait_until(lambda: hung(database, watchdog, one=ANOTHER, two=TWO)) == ["two"]


def test_workers_of_other_nodes_are_left_to_them(database):
    watchdog = Watchdog(LEASE)
    hung(database, watchdog, two=TWO)
    begin(database, "one", "two")
    assert wait_until(lambda: hung(database, watchdog, two=TWO)) == ["two"]
