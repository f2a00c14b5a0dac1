"""A disk that forgets, when the power is cut, what nobody has asked it to keep.

SIGKILL leaves the kernel's page cache as it is: a missing fsync would never show. So every process of the product notes
in a journal what it renames, makes and syncs, and after a cut the harness undoes on the disk what was not synced since:
files lose their content (fsync of the file), renamed and made names go back (fsync of the folder). That is the most
that POSIX lets a disk forget. The database syncs by itself, below Python, and is left as it is.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def keep_journal(file: Path) -> None:
    """Note in this file, from now on, what this process does to names and what it syncs."""
    journal = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*what: Any) -> None:
        os.write(journal, (json.dumps(what) + "\n").encode())

    def syncing(sync: Callable[[int], None]) -> Callable[[int], None]:
        def noted(handle: Any) -> None:
            sync(handle)
            number = handle if isinstance(handle, int) else handle.fileno()
            state = os.fstat(number)
            note("synced", state.st_ino, state.st_size, state.st_mtime_ns)

        return noted

    def renaming(rename: Callable[..., None]) -> Callable[..., None]:
        def noted(source: Any, target: Any, **more: Any) -> None:
            rename(source, target, **more)
            note("renamed", os.stat(os.path.dirname(target)).st_ino, str(source), str(target))  # noqa: PTH116, PTH120

        return noted

    make = os.mkdir

    def making(path: Any, *more: Any, **named: Any) -> None:
        make(path, *more, **named)
        note("made", os.stat(os.path.dirname(path)).st_ino, str(path))  # noqa: PTH116, PTH120

    os.fsync, os.fdatasync = syncing(os.fsync), syncing(os.fdatasync)
    os.rename, os.replace = renaming(os.rename), renaming(os.replace)
    os.mkdir = making  # type: ignore[assignment]


def forget_unsynced(file: Path, root: Path) -> int:
    """Leave on the disk what a power cut may leave of the object store; how many names and files it costs.

    No process that keeps the journal may be alive.
    """
    events = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    folders = [root / "objects", root / "incoming"]
    pending: list[list[Any]] = []
    whole: set[tuple[int, int, int]] = set()
    for event in events:
        if event[0] == "synced":
            whole.add((event[1], event[2], event[3]))
            pending = [other for other in pending if other[1] != event[1]]
        elif any(Path(event[-1]).is_relative_to(folder) for folder in folders):
            pending.append(event)
    for kind, _, *paths in reversed(pending):
        if kind == "made":
            shutil.rmtree(paths[0], ignore_errors=True)
        elif Path(paths[1]).exists():
            os.rename(paths[1], paths[0])  # noqa: PTH104
    forgotten = [path for path in _files(folders) if not _is_whole(path, whole)]
    for path in forgotten:
        os.truncate(path, 0)
    # What is left is on the disk; the journal begins anew with it.
    left = [path.stat() for path in _files(folders)]
    file.write_text("".join(json.dumps(["synced", s.st_ino, s.st_size, s.st_mtime_ns]) + "\n" for s in left))
    return len(pending) + len(forgotten)


def _files(folders: list[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def _is_whole(path: Path, whole: set[tuple[int, int, int]]) -> bool:
    state = path.stat()
    return state.st_size == 0 or (state.st_ino, state.st_size, state.st_mtime_ns) in whole
