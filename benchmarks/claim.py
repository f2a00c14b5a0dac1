"""How long a worker takes to claim a job while 100,000 are queued, the commit included, on SQLite and on PostgreSQL.

The jobs are of 40 senders and 5 routes. A claim is to take less than 5 ms. Beside it, what it takes to queue one more.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from statistics import median, quantiles

from sqlalchemy import insert
from sqlalchemy.orm import Session

from benchmarks._place import folder_on_disk
from storage.database import Database, current_time
from storage.queue import claim
from storage.schema import Job
from storage.transitions import JobState
from tests.jobs import queued
from tests.peers import postgresql

_QUEUED, _ROUNDS = 100_000, 300
_SENDERS, _ROUTES = 40, 5
_TARGET = 5


def main() -> None:
    """Print how long claiming and queueing take on each database."""
    with folder_on_disk() as folder, postgresql(folder / "postgresql") as server:
        for name, url in (("SQLite", f"sqlite:///{folder / 'fullfield.db'}"), ("PostgreSQL", server)):
            database = Database(url)
            database.migrate()
            with database.transaction() as tx:
                _fill(tx)
            claimed, added = [], []
            for number in range(_ROUNDS):
                claimed.append(_milliseconds(database, partial(claim, owner="one", lease_seconds=600)))
                one_more = partial(queued, number=_QUEUED + number, sender="CARM 7", route="2")
                added.append(_milliseconds(database, one_more))
            database.close()
            print(f"{name}: claimed in {_in_words(claimed)}, target {_TARGET} ms; queued in {_in_words(added)}")


def _fill(tx: Session) -> None:
    now = current_time(tx)
    job = {
        "profile": "fullfield",
        "mode": "mean",
        "series_instance_uid": "1.2.1",
        "study_instance_uid": "1.2",
        "state": JobState.QUEUED,
        "priority": 50,
        "attempts": 0,
        "max_attempts": 3,
        "not_before": now,
        "lease_token": 0,
        "progress": 0.0,
        "settings": {},
        "created_at": now,
        "updated_at": now,
    }
    rows = [
        job
        | {"sender": f"CARM {number % _SENDERS}", "route": f"{number % _ROUTES}"}
        | {"turn": now + timedelta(seconds=number % 1000)}
        for number in range(_QUEUED)
    ]
    tx.execute(insert(Job), rows)


def _milliseconds(database: Database, step: Callable[[Session], object]) -> float:
    begun = time.perf_counter()
    with database.transaction() as tx:
        step(tx)
    return 1000 * (time.perf_counter() - begun)


def _in_words(milliseconds: list[float]) -> str:
    worst = quantiles(milliseconds, n=20)[-1]
    return f"{median(milliseconds):.1f} ms (median of {len(milliseconds)}; 95 % within {worst:.1f} ms)"


if __name__ == "__main__":
    main()
