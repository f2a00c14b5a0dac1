"""The HTTP server of the node: uvicorn in a thread, with an application on it."""

import socket
import threading
from typing import Any

import structlog
import uvicorn

from config.errors import StorageUnavailable

log = structlog.get_logger()

#: Seconds without a request after which a connection is closed.
_KEEP_ALIVE_SECONDS = 15
#: Requests at the same time, beyond which clients are told to come later (503).
_MOST_AT_ONCE = 100


class WebServer:
    """Serves an ASGI application on a port until it is stopped."""

    def __init__(self, application: Any, host: str, port: int) -> None:
        #: What is served.
        self.application = application
        self._address = (host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._address[1]

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if the address cannot be listened on."""
        host, port = self._address
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server(self._address, family=family, backlog=128)
        except OSError as error:
            raise StorageUnavailable(f"Cannot listen on {host}, port {port}: {error.strerror}.") from error
        config = uvicorn.Config(
            self.application,
            # Paths and queries hold patient data: no access log.
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )
        self._thread.start()
        log.info("listening for DICOMweb", host=host, port=port)

    def stop(self, grace_seconds: float = 10) -> None:
        """Accept no more requests, and break off those that have not ended when the time is over."""
        if self._server is None or self._thread is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        self._thread.join()
        self._server = None
        if self._socket is not None:
            self._socket.close()
