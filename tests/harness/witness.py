"""Other destinations beside the PACS, which remember each version of an object that they have acknowledged, and
can misbehave: one by C-STORE, which takes pictures compressed, and one by STOW-RS."""

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Literal

from pydicom import dcmread, dcmwrite
from pydicom.uid import JPEGLSLossless
from pynetdicom import AE, StoragePresentationContexts, evt

from dicom_node.network.contexts import UNCOMPRESSED
from tests.harness.part10 import data_set
from tests.peers import free_port

AE_TITLE = "WITNESS"
Manners = Literal["good", "full", "aborting", "slow"]

_OUT_OF_RESOURCES = 0xA700
_SLOW = 0.3


class Witness(ABC):
    """Takes everything, from start to stop, unless its manners are bad."""

    def __init__(self) -> None:
        self.port = free_port()
        self.manners: Manners = "good"
        #: SHA-256 of the data sets, without compression, that it has acknowledged, by SOP Instance UID.
        self.versions: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def stop(self) -> None:
        """Take no more."""

    def _remember(self, sop_instance_uid: str, data_set: bytes) -> None:
        with self._lock:
            self.versions.setdefault(sop_instance_uid, set()).add(hashlib.sha256(data_set).hexdigest())


class StoreWitness(Witness):
    """A C-STORE SCP that takes JPEG-LS as well."""

    def __init__(self) -> None:
        super().__init__()
        #: How many of what it took was compressed.
        self.compressed = 0
        ae = AE(AE_TITLE)
        for context in StoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, [JPEGLSLossless, *UNCOMPRESSED])
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
        if event.context.transfer_syntax == JPEGLSLossless:
            with self._lock:
                self.compressed += 1
            content = _without_compression(event.encoded_dataset())
        self._remember(str(event.request.AffectedSOPInstanceUID), content)
        return 0x0000


class WebWitness(Witness):
    """A STOW-RS origin server for single objects (PS3.18 10.5)."""

    def __init__(self) -> None:
        super().__init__()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self._take(handler)

            def log_message(handler, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, name="web witness", daemon=True).start()

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        manners = self.manners
        size = int(request.headers["Content-Length"])
        message = request.rfile.read(size)
        if len(message) < size or manners == "aborting":
            request.close_connection = True
            return
        if manners == "slow":
            time.sleep(_SLOW)
        if manners != "full":
            begin = message.index(b"\r\n\r\n") + 4
            content = message[begin : message.rindex(b"\r\n--")]
            header = dcmread(BytesIO(content), specific_tags=["SOPInstanceUID"])
            self._remember(str(header.SOPInstanceUID), data_set(content))
        request.send_response(503 if manners == "full" else 200)
        request.send_header("Content-Length", "0")
        request.end_headers()


def _without_compression(part10: bytes) -> bytes:
    """The data set in explicit little endian, as it was before its pixels were compressed."""
    picture, plain = dcmread(BytesIO(part10)), BytesIO()
    picture.decompress(generate_instance_uid=False)
    dcmwrite(plain, picture)
    return data_set(plain.getvalue())
