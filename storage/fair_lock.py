"""A lock that goes to who has waited longest.

`threading.Lock` goes to whoever comes by when it is free; under load one of many threads may never be the one.
"""

import threading
from collections import deque


class FairLock:
    """Held by one thread at a time, in the order in which they asked."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._waiting)

    def acquire(self, timeout: float) -> bool:
        """Wait so many seconds at the most for the lock; whether it is held now."""
        with self._mutex:
            if not self._held:
                self._held = True
                return True
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(timeout):
            return True
        with self._mutex:
            if turn.is_set():  # It came just after the time was over.
                return True
            self._waiting.remove(turn)
            return False

    def release(self) -> None:
        """Hand it to who has waited longest."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False
