"""A lock that goes to who has waited longest.

`threading.Lock` goes to whoever comes by when it is free; under load one of many threads may never be the one.
"""

import threading
import time
from collections import deque


class FairLock:
    """Held by one thread at a time, in the order in which they asked."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Event] = deque()
        self._handed_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._waiting)

    def acquire(self, patience: float) -> bool:
        """Wait for the lock, unless for so many seconds it goes from nobody to nobody; whether it is held now."""
        with self._mutex:
            if not self._held:
                self._held = True
                self._handed_at = time.monotonic()
                return True
            turn = threading.Event()
            self._waiting.append(turn)
        while (left := self._handed_at + patience - time.monotonic()) > 0:
            if turn.wait(left):
                return True
        with self._mutex:
            if turn.is_set():  # It came just after the time was over.
                return True
            self._waiting.remove(turn)
            return False

    def release(self) -> None:
        """Give it to who has waited longest, or to nobody."""
        with self._mutex:
            if self._waiting:
                self._handed_at = time.monotonic()
                self._waiting.popleft().set()
            else:
                self._held = False
