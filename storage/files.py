"""The object store: files named by the digest of their content, whole and durable or not there at all."""

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from config.errors import DamagedObject, StorageFull, StorageUnavailable
from storage.faultpoint import faultpoint

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredFile:
    """A file in the store."""

    #: SHA-256 of its content, lower-case hexadecimal.
    digest: str
    #: Bytes.
    size: int


class ObjectStore:
    """A folder of files, shared by every process that is given the same root.

    ``objects/ab/cd/abcd...`` holds the files, ``incoming/`` the ones still being written: on one file system,
    so that a file moves from one to the other whole. Every method raises StorageFull when the disk is full
    and StorageUnavailable when it cannot be used for another reason.
    """

    def __init__(self, root: Path, full_below_bytes: int = 0) -> None:
        """full_below_bytes: free space below which nothing more is written, so that what is under way can end."""
        #: The folder that holds all of it.
        self.root = root.absolute()
        self._full_below_bytes = full_below_bytes
        self._objects = self.root / "objects"
        #: Where damaged files and files without a row are moved, for a person to look at.
        self.quarantined = self.root / "quarantine"
        #: Where files are written before they are kept.
        self.incoming = self.root / "incoming"
        #: Folders whose way from the root this process has fsynced. That another process made a folder does
        #: not say that it has come to that yet. Folders are never removed.
        self._durable: set[Path] = set()
        with _disk_errors_in_words(root):
            self._make_durable_folder(self.incoming)
            self._make_durable_folder(self._objects)

    def keep(self, path: Path, digest: str | None = None) -> StoredFile:
        """Move a complete file from `incoming` into the store; it survives a power cut when this returns.

        digest: SHA-256 of the file, if it is known; else it is computed. A file that is in the store
        already is replaced by this one, its equal. After an error the file is still in `incoming`.
        """
        with _disk_errors_in_words(path):
            digest = digest or _digest(path)
            target = self.path(digest)
            size = path.stat().st_size
            faultpoint("store.written")
            _fsync(path)
            faultpoint("store.synced")
            self._make_durable_folder(target.parent)
            path.replace(target)
            faultpoint("store.renamed")
            _fsync(target.parent)
            faultpoint("store.kept")
        return StoredFile(digest, size)

    def write(self, data: bytes | Iterable[bytes]) -> StoredFile:
        """Write the bytes, or all the chunks one after the other, into the store; StorageFull without room."""
        return self.write_with(lambda file: file.writelines((data,) if isinstance(data, bytes) else data))

    def write_with(self, fill: Callable[[BinaryIO], None]) -> StoredFile:
        """Write into the store what `fill` writes, from its beginning to its end; StorageFull without room."""
        if not self.has_room():
            raise StorageFull(f"The disk that holds {self._objects} is full but for what is to stay free.")
        with _disk_errors_in_words(self.incoming):
            handle, name = tempfile.mkstemp(dir=self.incoming, prefix="write-")
            path = Path(name)
            try:
                with os.fdopen(handle, "wb") as file, _Digesting(file) as digesting:
                    hold(file)
                    fill(cast("BinaryIO", digesting))
                    file.flush()
                    return self.keep(path, digesting.digest)
            finally:
                path.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Where the file with this digest is, or would be; ValueError for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError("A digest is 64 lower-case hexadecimal digits.")
        return self._objects / digest[:2] / digest[2:4] / digest

    def open(self, digest: str) -> BinaryIO:
        """Open a file to read it; DamagedObject if it is missing."""
        path = self.path(digest)
        with _disk_errors_in_words(path):
            try:
                return path.open("rb")
            except FileNotFoundError as error:
                if not self._objects.is_dir():
                    raise  # The whole store is gone, such as a disk that is not mounted.
                raise DamagedObject(f"The object {digest} is missing from the store.") from error

    def verify(self, digest: str) -> None:
        """Read a file and compare it with its digest; DamagedObject if it is missing or differs."""
        self.open(digest).close()
        with _disk_errors_in_words(self.path(digest)):
            actual = _digest(self.path(digest))
        if actual != digest:
            raise DamagedObject(f"The object {digest} is damaged: its bytes have another digest.")

    def is_whole(self, path: Path, digest: str) -> bool:
        """Whether a file, wherever it is, has this digest."""
        with _disk_errors_in_words(path):
            return _digest(path) == digest

    def free_bytes(self) -> int:
        """Bytes that can still be written."""
        with _disk_errors_in_words(self._objects):
            return shutil.disk_usage(self._objects).free

    def has_room(self) -> bool:
        """Whether more may be written."""
        return self.free_bytes() >= self._full_below_bytes

    def check_writable(self) -> None:
        """StorageUnavailable where files cannot be written, such as on a disk that is mounted read-only."""
        with _disk_errors_in_words(self.incoming):
            handle, name = tempfile.mkstemp(dir=self.incoming, prefix="check-")
            os.close(handle)
            Path(name).unlink()

    def remove(self, digest: str) -> None:
        """Delete a file; one that is not there is gone already. After a power cut it may be back, as an orphan."""
        path = self.path(digest)
        with _disk_errors_in_words(path):
            path.unlink(missing_ok=True)

    def quarantine(self, digest: str) -> Path | None:
        """Move a file aside, durably; where to, None if it is not there."""
        path = self.path(digest)
        with _disk_errors_in_words(path):
            self._make_durable_folder(self.quarantined)
            aside = self.quarantined / digest
            try:
                path.rename(aside)
            except FileNotFoundError:
                return None
            _fsync(self.quarantined)
            _fsync(path.parent)
        return aside

    def files(self, older_than_seconds: float = 0) -> Iterator[StoredFile]:
        """All files that are kept, by digest, but for those written just now."""
        oldest = time.time() - older_than_seconds
        with _disk_errors_in_words(self._objects):
            for first in sorted(self._objects.iterdir()):
                for second in sorted(first.iterdir()):
                    for path in sorted(second.iterdir()):
                        try:
                            told = path.stat()
                        except FileNotFoundError:
                            continue  # Removed meanwhile.
                        if _DIGEST.fullmatch(path.name) and told.st_mtime < oldest:
                            yield StoredFile(path.name, told.st_size)

    def sweep(self, older_than_seconds: float) -> int:
        """Delete what a crash has left in `incoming`; how many files.

        Spared is what was written to just now, and what somebody holds (`hold`), however old a clock that was set
        makes it look.
        """
        oldest = time.time() - older_than_seconds
        swept = 0
        with _disk_errors_in_words(self.incoming):
            for path in self.incoming.iterdir():
                try:
                    if path.stat().st_mtime < oldest and not _is_held(path):
                        path.unlink()
                        swept += 1
                except FileNotFoundError:
                    continue  # Kept, or swept by another process, meanwhile.
        return swept

    def _make_durable_folder(self, folder: Path) -> None:
        outside = self.root not in folder.parents
        if folder in self._durable or (outside and folder.exists()):
            return
        self._make_durable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        faultpoint("store.folder_made")
        _fsync(folder.parent)
        self._durable.add(folder)


def hold(file: BinaryIO) -> None:
    """Have nobody sweep a file in `incoming` away until it is closed, or its process has ended."""
    fcntl.flock(file, fcntl.LOCK_EX)


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class _Digesting(io.BufferedIOBase):
    """A file that is written through to another one and digested on the way: what was meant, not what lies there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk_errors_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"The disk that holds {path} is full.") from error
        raise StorageUnavailable(f"The disk that holds {path} cannot be used: {error.strerror}.") from error
