"""Circuit breakers: a destination that cannot be reached is left alone for a while, whatever else is due to it.

Without one each of a thousand waiting jobs would try by itself, and each wait for the same timeout. Who delivers, who
asks for storage commitment and who fetches have theirs each: a destination may do one of it and not the other.
"""

import threading
import time
from dataclasses import dataclass

from config.settings import DeliverySettings
from dicom_node.backoff import wait_seconds


@dataclass(frozen=True)
class _Fault:
    """Failures of a destination since it last took anything."""

    failures: int
    #: By this machine's clock.
    rests_until: float


class Breakers:
    """One for each destination, by name. They live with the process: a restart tries anew at once."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._faults: dict[str, _Fault] = {}

    def is_open(self, name: str) -> bool:
        """Whether the destination is to be left alone now."""
        return self.rest(name) > 0

    def rest(self, name: str) -> float:
        """For how much longer the destination is to be left alone, in seconds; 0 if it is not."""
        with self._lock:
            fault = self._faults.get(name)
        return 0.0 if fault is None else max(fault.rests_until - time.monotonic(), 0.0)

    def failed(self, name: str, attempt: int) -> float:
        """The destination could not be reached, or took nothing; for how long it is left alone, in seconds.

        attempt: how often what was to go there has been tried; after a restart that is more than is known here.
        """
        with self._lock:
            known = self._faults.get(name)
            if known is not None and (rest := known.rests_until - time.monotonic()) > 0:
                return rest  # Several associations that break at once are one failure.
            failures = max(attempt, known.failures + 1 if known is not None else 1)
            wait = wait_seconds(self._settings, failures)
            self._faults[name] = _Fault(failures, time.monotonic() + wait)
        return wait

    def succeeded(self, name: str) -> None:
        """The destination took something, or answers again."""
        with self._lock:
            self._faults.pop(name, None)
