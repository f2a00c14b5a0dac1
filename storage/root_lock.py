"""One node works with a data root at a time, unless several share its files by one PostgreSQL database.

The lock is the system's (flock): it ends with the process that holds it, however that ends.
"""

import fcntl
import os
import socket
from pathlib import Path

from config.errors import ConfigError, StorageUnavailable

_FILE = "node.lock"


class RootLock:
    """Held from `acquire` to `release`.

    shared: beside others that share the root too; a node that does not shares it with nobody.
    """

    def __init__(self, root: Path, *, shared: bool) -> None:
        self._root = root
        self._shared = shared
        self._handle: int | None = None

    def acquire(self) -> None:
        """Raises ConfigError while another node holds it, StorageUnavailable if the root cannot be locked."""
        try:
            handle = os.open(self._root / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"The data root {self._root} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # For the message to whoever comes next; of those that share, the last one.
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        except OSError as error:
            holder = os.pread(handle, 256, 0).decode(errors="replace") or "unknown"
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise ConfigError(
                    f"Another node works with the data in {self._root} ({holder}): end it, or give this one a "
                    "`storage.root` of its own."
                ) from error
            raise StorageUnavailable(f"The data root {self._root} cannot be locked: {error.strerror}.") from error
        self._handle = handle

    def release(self) -> None:
        """Let others work with the root; nothing if it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
