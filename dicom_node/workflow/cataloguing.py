"""Objects that were kept before there was a catalogue are entered in it, while everything else goes on."""

import threading

import structlog
from pydicom.dataset import Dataset

from config.errors import DamagedObject, StorageFull, StorageUnavailable
from dicom_node.network.reception import header_facts
from dicom_node.network.statuses import Unacceptable
from storage.catalogue import catalogue, uncatalogued
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import StoredObject

log = structlog.get_logger()

#: Objects that one transaction enters: those who receive do not wait longer than a moment for it.
_AT_ONCE = 20
#: Seconds between two transactions, and before another try when the database or the disk is away.
_PAUSE, _WAIT = 0.05, 10.0


def catalogue_earlier(database: Database, store: ObjectStore, stopping: threading.Event) -> int:
    """Enter what is kept and not in the catalogue; how many objects. Ends early when `stopping` is set."""
    entered = last = 0
    while not stopping.wait(_PAUSE):
        try:
            with database.reading() as tx:
                objects = uncatalogued(tx, after=last, limit=_AT_ONCE)
            if not objects:
                break
            headers = [(object, _header(store, object)) for object in objects]
            with database.transaction() as tx:
                for object, header in headers:
                    catalogue(tx, object, header)
        except (StorageFull, StorageUnavailable) as error:
            log.warning("objects kept earlier wait to be entered in the catalogue", reason=str(error))
            stopping.wait(_WAIT)
            continue
        entered, last = entered + len(objects), objects[-1].id
    if entered:
        log.info("objects kept earlier entered in the catalogue", objects=entered)
    return entered


def _header(store: ObjectStore, object: StoredObject) -> Dataset:
    """What its file says; of one that is damaged no more than its row does, or it would be tried for ever."""
    try:
        store.open(object.digest).close()
        return header_facts(store.path(object.digest))
    except (DamagedObject, Unacceptable):
        header = Dataset()
        header.Modality = object.modality
        return header
