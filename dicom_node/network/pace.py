"""How many objects a second are acknowledged: a peer that sends faster waits for its answers."""

import threading
import time
from collections.abc import Callable

#: What may be taken at once by whoever was quiet before: the turns of so many seconds.
_SAVED_SECONDS = 1.0


class Pace:
    """Gives out turns; per_second: how many, None for as many as are asked for."""

    def __init__(self, per_second: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self._between = 1 / per_second if per_second is not None else 0.0
        self._now = now
        self._next = now() - _SAVED_SECONDS
        self._lock = threading.Lock()

    def take_turn(self) -> float:
        """Seconds to wait for the turn that is taken by asking."""
        with self._lock:
            now = self._now()
            turn = max(self._next, now - _SAVED_SECONDS)
            self._next = turn + self._between
        return max(0.0, turn - now)

    @property
    def behind(self) -> float:
        """Seconds that the next one to ask would wait."""
        return max(0.0, self._next - self._now())
