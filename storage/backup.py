"""Backups: the database as it was at one moment, and every file that it knows; and the way back.

A backup's folder holds ``objects/`` as the object store does, so that the next backup into it copies only what is new.
``backup.json`` is replaced last: until then the backup before is whole, and after a crash still.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select, update

from config.errors import ConfigError, DamagedObject, StorageFull, StorageUnavailable
from storage import migrations
from storage.database import Database
from storage.dump import dump, kind_of, load
from storage.files import ObjectStore, StoredFile
from storage.schema import StoredObject
from storage.states import Damage

_MANIFEST = "backup.json"
#: A file that retention deletes while it is to be copied has the database dumped anew; each time there are fewer.
_MOST_DUMPS = 10
_AT_ONCE = 500

#: Told how many bytes are done, of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a folder holds."""

    #: ISO 8601, in UTC: everything that was acknowledged before is in it.
    made_at: str
    #: The revision of the schema.
    schema: str
    #: ``sqlite`` or ``postgresql``.
    kind: str
    #: The dump's file in the folder, and its SHA-256.
    database: str
    digest: str
    objects: int
    bytes: int
    #: Objects whose file was missing or damaged when it was made.
    missing: int


def back_up(url: str, database: Database, store: ObjectStore, folder: Path, progress: Progress) -> Backup:
    """Make a backup in a folder, a new one or that of a backup before; the node may go on.

    On the store's own file system files are linked, elsewhere copied and compared with their digests.
    """
    if folder.resolve().is_relative_to(store.root.resolve()):
        raise ConfigError(f"A backup in {folder} would be lost with {store.root}: choose a folder outside.")
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob("*.part"):
        left_over.unlink()
    schema = database.check()
    for _ in range(_MOST_DUMPS):
        made_at = datetime.now(UTC)
        part = folder / "database.part"
        part.unlink(missing_ok=True)
        files = dump(url, database, part)
        lacking = _copy(files, store, folder, progress)
        missing = _still_known(database, lacking)
        if len(missing) == len(lacking):
            break
    else:
        raise StorageUnavailable("Objects are deleted faster than they are copied; try again later.")
    backup = Backup(
        made_at=made_at.isoformat(timespec="microseconds"),
        schema=schema,
        kind=kind_of(url),
        database=f"database-{made_at:%Y%m%dT%H%M%S%f}",
        digest=_digest(part),
        objects=len(files),
        bytes=sum(file.size for file in files),
        missing=len(missing),
    )
    part.rename(folder / backup.database)
    _publish(folder, backup)
    _prune(folder, backup, {file.digest for file in files})
    return backup


def read_backup(folder: Path) -> Backup:
    """What a folder holds; ConfigError if that is no backup, or one of a newer version."""
    try:
        backup = Backup(**json.loads((folder / _MANIFEST).read_text()))
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no backup: there is no {_MANIFEST}.") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder / _MANIFEST} is not one that this version can read.") from error
    migrations.check_known(backup.schema)
    return backup


def restore(url: str, store: ObjectStore, folder: Path, progress: Progress) -> list[str]:
    """Put a backup into an empty object store and a database that is not there yet; digests that it lacks.

    Files come first, the database last: what is interrupted has no database, and is begun again in an empty place.
    """
    backup = read_backup(folder)
    if backup.kind != kind_of(url):
        raise ConfigError(f"{folder} is a backup of {backup.kind}, and cannot be restored into {kind_of(url)}.")
    if _digest(folder / backup.database) != backup.digest:
        raise DamagedObject(f"{folder / backup.database} is damaged; take another backup.")
    files = [path for path in sorted((folder / "objects").glob("*/*/*")) if path.suffix != ".part"]
    done, total = 0, sum(path.stat().st_size for path in files)
    for path in files:
        copy = store.incoming / f"restore-{path.name}"
        _copy_file(path, copy)
        if store.is_whole(copy, path.name):
            target = store.path(path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy.replace(target)
        else:
            copy.unlink()
        done += path.stat().st_size
        progress(done, total)
    # All at once, for one after the other takes hours.
    os.sync()
    load(url, folder / backup.database)
    database = Database(url)
    try:
        database.migrate()
        lacking = [digest for digest in _known(database) if not store.path(digest).exists()]
        with database.transaction() as tx:
            for start in range(0, len(lacking), _AT_ONCE):
                lost = StoredObject.digest.in_(lacking[start : start + _AT_ONCE])
                tx.execute(update(StoredObject).where(lost).values(damage=Damage.MISSING))
    finally:
        database.close()
    return lacking


def _copy(files: list[StoredFile], store: ObjectStore, folder: Path, progress: Progress) -> list[StoredFile]:
    """Bring into a backup what it has not; what is missing or damaged in the store."""
    lacking = []
    done, total = 0, sum(file.size for file in files)
    for file in files:
        source = store.path(file.digest)
        target = folder / "objects" / source.relative_to(store.root / "objects")
        if not (target.exists() and target.stat().st_size == file.size):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            try:
                _link_or_copy(store, source, part, file.digest)
                part.rename(target)
            except (FileNotFoundError, DamagedObject):
                part.unlink(missing_ok=True)
                lacking.append(file)
        done += file.size
        progress(done, total)
    return lacking


def _link_or_copy(store: ObjectStore, source: Path, target: Path, digest: str) -> None:
    target.unlink(missing_ok=True)
    try:
        # Files of the store are never written to: what changes is replaced.
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        _copy_file(source, target)
        if not store.is_whole(target, digest):
            raise DamagedObject(f"The object {digest} is damaged.") from None


def _copy_file(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StorageFull(f"{target.parent} cannot take a copy: {error.strerror}.") from error


def _still_known(database: Database, files: list[StoredFile]) -> list[StoredFile]:
    """Those that retention has not deleted meanwhile."""
    known: set[str] = set()
    for start in range(0, len(files), _AT_ONCE):
        digests = [file.digest for file in files[start : start + _AT_ONCE]]
        with database.reading() as tx:
            known |= set(tx.scalars(select(StoredObject.digest).where(StoredObject.digest.in_(digests))))
    return [file for file in files if file.digest in known]


def _known(database: Database) -> Iterator[str]:
    with database.reading() as tx:
        yield from tx.scalars(select(StoredObject.digest).distinct())


def _publish(folder: Path, backup: Backup) -> None:
    """Make it the folder's backup, when all of it is on the disk."""
    os.sync()
    part = folder / f"{_MANIFEST}.part"
    part.write_text(json.dumps(asdict(backup), indent=1))
    os.sync()
    part.replace(folder / _MANIFEST)
    os.sync()


def _prune(folder: Path, backup: Backup, digests: set[str]) -> None:
    """Take out what only the backup before had."""
    for old in folder.glob("database-*"):
        if old.name != backup.database:
            old.unlink()
    for path in (folder / "objects").glob("*/*/*"):
        if path.name not in digests:
            path.unlink()


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DamagedObject(f"{file} is missing; take another backup.") from error
