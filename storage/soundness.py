"""Whether database and object store are fit to be used, and belong together; looked at when a node starts."""

from sqlalchemy import select

from config.errors import ConfigError
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import StoredObject

_RESTORE = "restore both from a backup with `fullfield restore`"


def make_ready(database: Database, store: ObjectStore) -> None:
    """Bring the schema to this version's, if all is sound; else nothing is changed but the schema.

    Raises DamagedDatabase for one with broken pages, StorageUnavailable for a store that cannot be written to, and
    ConfigError for a database of a newer version, or one that is not the store's.
    """
    database.check_pages()
    store.check_writable()
    if database.is_new() and next(store.files(), None) is not None:
        raise ConfigError(
            f"The object store {store.root} holds objects, but the database {database.place} is new: name the database "
            f"that belongs to it, or {_RESTORE}."
        )
    database.migrate()
    with database.reading() as tx:
        known = tx.scalars(select(StoredObject.id).where(StoredObject.damage.is_(None)).limit(1)).first()
    if known is not None and next(store.files(), None) is None:
        raise ConfigError(
            f"The database {database.place} knows objects, but the object store {store.root} holds none: see whether "
            f"its disk is mounted, or {_RESTORE}."
        )
