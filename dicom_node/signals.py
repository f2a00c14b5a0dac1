"""Signals to a process, one after the other, for a main thread that waits for nothing else."""

import signal
import socket
from collections.abc import Iterable


class Signals:
    """Catches signals from when it is made, until the process ends; made in the main thread, once.

    A signal's number is written to a socket the moment it arrives. A handler in Python is run only between two steps of
    the main thread: one that arrives while that thread goes to sleep would wait for the next signal to wake it.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._arrived, self._written = socket.socketpair()
        self._written.setblocking(False)
        signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        self._numbers = frozenset(numbers)
        for number in self._numbers:
            signal.signal(number, _do_nothing)

    def next(self) -> signal.Signals:
        """Wait for the next signal, and take it."""
        while (number := self._arrived.recv(1)[0]) not in self._numbers:
            pass
        return signal.Signals(number)


def _do_nothing(*_: object) -> None:
    """A handler there must be, or the process would end."""
