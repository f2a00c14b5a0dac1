"""Waiting for storage that is away: time mends it, and what was worked out is not thrown away meanwhile."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from config.errors import StorageFull, StorageUnavailable
from storage.database import Database

log = structlog.get_logger()

_Answer = TypeVar("_Answer")

#: Seconds between two attempts, the last again and again.
_WAITS = (0.2, 1.0, 5.0)


def persist(database: Database, step: Callable[[Session], _Answer], give_up: Callable[[float], bool]) -> _Answer:
    """Take a step in a transaction of its own, again and again while the database is away.

    give_up: waits for so many seconds, and says whether there is no point any more; then the last error is
        raised, StorageUnavailable or StorageFull.
    """
    attempt = 0
    while True:
        try:
            with database.transaction() as tx:
                return step(tx)
        except (StorageUnavailable, StorageFull) as error:
            log.warning("waiting for the database", reason=str(error))
            if give_up(_WAITS[min(attempt, len(_WAITS) - 1)]):
                raise
            attempt += 1
