"""What one attempt at a job may take of time and of its worker's memory, so that a job holds up no other for ever."""

import os
import re
import time
from pathlib import Path

from config.settings import WorkerSettings

#: What a job may take where the settings name no limit: this share of the machine's memory.
_SHARE_OF_MEMORY = 0.75
_MB = 1 << 20


class Limits:
    """The limits of an attempt that begins now."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._minutes = settings.job_minutes
        self._memory_mb = settings.memory_mb or int(_SHARE_OF_MEMORY * machine_memory() / _MB)
        self._end = time.monotonic() + 60 * self._minutes

    def exceeded(self) -> str | None:
        """Which limit the attempt has exceeded, and who can mend it, for people; None while it keeps to them."""
        if time.monotonic() > self._end:
            return f"took longer than {self._minutes:g} min, a limit that the administrator sets as worker.job_minutes"
        if resident_memory() > self._memory_mb * _MB:
            return (
                f"took more memory than {self._memory_mb} MB, a limit that the administrator sets as worker.memory_mb"
            )
        return None


def machine_memory() -> int:
    """Bytes of main memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_memory() -> int:
    """Bytes of main memory that this process has taken for itself (RssAnon in proc(5)).

    Not what it has mapped of files or reserved without touching it, of which torch reserves much.
    """
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0
