"""The built-in archive: a folder that stands in for PACS when there is none, as in the demo."""

import os
import time
from pathlib import Path

import structlog

from config.errors import FullfieldError
from dicom_node.logs import hashed
from dicom_node.network.contexts import archive_contexts
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest
from dicom_node.network.receiving import Receiving
from dicom_node.network.reception import examine
from dicom_node.network.server import StorageServer, Terms
from dicom_node.network.statuses import Status, Unacceptable

log = structlog.get_logger()

#: A file that was last written to so long ago is left from a crash.
_LEFT_OVER_SECONDS = 3600


class Archive:
    """A C-STORE and C-ECHO SCP that takes every storage SOP class from anybody.

    An object lies at ``STUDY/SERIES/INSTANCE.dcm`` under the folder, whole and durable, when it is
    acknowledged; one with the same UIDs takes its place.
    """

    def __init__(self, folder: Path, host: str, port: int, ae_title: str) -> None:
        self._folder = folder.absolute()
        self._incoming = self._folder / ".incoming"
        self._server = StorageServer(
            self,
            ae_title=ae_title,
            host=host,
            port=port,
            contexts=archive_contexts(),
            receiving=Receiving(self._incoming),
        )

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._server.port

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if the address cannot be listened on."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            if left.stat().st_mtime < time.time() - _LEFT_OVER_SECONDS:
                left.unlink(missing_ok=True)
        self._server.start()

    def stop(self, grace_seconds: float = 10) -> None:
        """Accept no more associations, and abort those that have not ended when the time is over."""
        self._server.stop(grace_seconds)

    # What the server asks, as a StorageService.

    def not_secured(self, address: str, reason: str) -> None:
        """Never: the archive speaks no TLS."""

    def admit(self, peer: Peer) -> Terms:  # noqa: ARG002
        """Everybody may come in."""
        return Terms()

    def contexts_refused(self, peer: Peer, sop_classes: list[str]) -> None:
        """Nothing: the peer knows which contexts it has."""

    def has_room(self) -> bool:
        """Always; a full disk shows when it is written to."""
        return True

    def store(self, request: StoreRequest, file: IncomingFile) -> int:
        """Move the object to its place."""
        try:
            arrival, _ = examine(file.path, file.complete(), file.size, request)
            series = self._folder / arrival.study_instance_uid / arrival.series_instance_uid
            series.mkdir(parents=True, exist_ok=True)
            _fsync(file.path)
            file.path.replace(series / f"{arrival.sop_instance_uid}.dcm")
            for folder in (series, series.parent, self._folder):
                _fsync(folder)
        except Unacceptable as error:
            return self._refused(request, error.status, str(error))
        except (FullfieldError, OSError) as error:
            return self._refused(request, Status.OUT_OF_RESOURCES, str(error))
        log.info("object archived", sop_instance=hashed(arrival.sop_instance_uid), bytes=arrival.size)
        return Status.SUCCESS

    def refuse(self, request: StoreRequest) -> int:
        """Refuse an object of another SOP class than that which was negotiated."""
        reason = "The SOP class is not that of the presentation context."
        return self._refused(request, Status.SOP_CLASS_NOT_SUPPORTED, reason)

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """Nothing: each object stands for itself."""

    def _refused(self, request: StoreRequest, status: Status, reason: str) -> int:
        instance = hashed(request.sop_instance_uid)
        log.warning("object not archived", sop_instance=instance, status=f"0x{status:04X}", reason=reason)
        return status


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
