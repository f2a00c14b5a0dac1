"""Signals that arrive at any moment are taken, each once."""

import subprocess
import sys

from tests.peers import PATIENCE

_IMPORTS = """
import os, signal, threading
from dicom_node.signals import Signals
signals = Signals((signal.SIGTERM, signal.SIGHUP))
"""

#: The system gives it to a thread that is not the main one, whose sleep it does not end.
_WHILE_ASLEEP = """
def strike():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Timer(0.2, strike).start()
print(signals.next().name)
"""

_ONE_AFTER_THE_OTHER = """
signal.signal(signal.SIGUSR1, lambda *_: None)
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
    os.kill(os.getpid(), number)
print(signals.next().name, signals.next().name)
"""


def _said_by(script: str) -> str:
    command = [sys.executable, "-c", _IMPORTS + script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()


def test_a_signal_that_does_not_end_the_main_threads_sleep_is_taken() -> None:
    assert _said_by(_WHILE_ASLEEP) == "SIGTERM"


def test_signals_are_taken_in_their_order_and_others_are_passed_over() -> None:
    assert _said_by(_ONE_AFTER_THE_OTHER) == "SIGHUP SIGTERM"
