"""A clock that is set back: what waits is due when it would have been."""

import time
from datetime import UTC, datetime, timedelta

from storage.clock import ClockWatch, bring_forward
from storage.database import Database, current_time
from tests.jobs import queued, result, take

HOUR = timedelta(hours=1)


def test_a_clock_that_goes_on_or_ahead_is_no_matter() -> None:
    watch, now = ClockWatch(), datetime.now(UTC)
    assert watch.set_back_by(now) is None
    assert watch.set_back_by(now) is None
    assert watch.set_back_by(now + HOUR) is None


def test_a_clock_that_is_set_back_is_noticed_once(monkeypatch) -> None:
    watch, now = ClockWatch(), datetime.now(UTC)
    steady = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    watch.set_back_by(now)
    steady += 0.5
    assert watch.set_back_by(now + timedelta(seconds=0.5) - HOUR) == HOUR
    assert watch.set_back_by(now + timedelta(seconds=0.5) - HOUR) is None


def test_what_waits_waits_as_much_less_and_what_is_due_is_left_alone(database: Database) -> None:
    with database.transaction() as tx:
        now = current_time(tx)
        claimed, _ = take(tx) if queued(tx, 1) else (None, None)
        due, late = queued(tx, 2), queued(tx, 3)
        before = due.not_before
        claimed.lease_until = now + HOUR + timedelta(seconds=60)
        late.not_before = now + HOUR
        delivery = result(tx, claimed)
        delivery.not_before = now + 2 * HOUR
        tx.flush()
        assert bring_forward(tx, HOUR) == 3
        assert due.not_before == before
        assert now <= late.not_before <= current_time(tx)
        assert claimed.lease_until == now + timedelta(seconds=60)
        assert delivery.not_before == now + HOUR
