"""A second PACS, which remembers each version of an object that it was ever sent, and can misbehave."""

import hashlib
import threading
import time
from typing import Literal

from pynetdicom import AE, StoragePresentationContexts, evt

from dicom_node.network.contexts import UNCOMPRESSED
from tests.peers import free_port

AE_TITLE = "WITNESS"
Manners = Literal["good", "full", "aborting", "slow"]

_OUT_OF_RESOURCES = 0xA700
_SLOW = 0.3


class Witness:
    """Takes everything, from start to stop, unless its manners are bad."""

    def __init__(self) -> None:
        self.port = free_port()
        self.manners: Manners = "good"
        #: SHA-256 of the data sets that it has acknowledged, by SOP Instance UID.
        self.versions: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        ae = AE(AE_TITLE)
        for context in StoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, list(UNCOMPRESSED))
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)]
        )

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()

    def _take(self, event: evt.Event) -> int:
        if self.manners == "full":
            return _OUT_OF_RESOURCES
        if self.manners == "aborting":
            event.assoc.abort()
            return _OUT_OF_RESOURCES
        if self.manners == "slow":
            time.sleep(_SLOW)
        content = event.request.DataSet.getvalue()
        with self._lock:
            known = self.versions.setdefault(str(event.request.AffectedSOPInstanceUID), set())
            known.add(hashlib.sha256(content).hexdigest())
        return 0x0000
