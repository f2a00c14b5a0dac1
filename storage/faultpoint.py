"""Named instants at which the fault harness can end a process, or have its disk fail.

    faultpoint("store.renamed")

Everywhere but in a process that the harness has started, this calls an empty function. There the environment variable
names a file, and while the file holds an order, ``NUMBER POINT PASS DEED``, the process that comes by that point for
the so-many-th time since then does the deed: ``kill`` ends it by SIGKILL, ``EIO`` and ``ENOSPC`` are raised as OSError.
It takes the order away first, so that a deed is done once.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

#: Not one of the settings: whoever can set it for a node can as well end it.
VARIABLE = "FAULTPOINT_ORDERS"


class Orders:
    """What a file orders, looked up at every point."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._order: list[str] = []
        self._passes = 0
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        """Do what is ordered for this point, if it is its turn."""
        try:
            order = self._file.read_text().split()
        except FileNotFoundError:
            return
        with self._lock:
            if order != self._order:
                self._order, self._passes = order, 0
            _, where, turn, deed = order
            if where != point:
                return
            self._passes += 1
            if self._passes != int(turn) or not self._take_away():
                return
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, deed)
        raise OSError(number, os.strerror(number))

    def _take_away(self) -> bool:
        try:
            self._file.rename(self._file.with_suffix(".done"))
        except FileNotFoundError:
            return False  # Another process was first.
        return True


def _nothing(_: str) -> None:
    pass


faultpoint: Callable[[str], None] = Orders(Path(os.environ[VARIABLE])) if VARIABLE in os.environ else _nothing
