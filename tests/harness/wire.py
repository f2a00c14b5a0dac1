"""The network between two peers: a TCP proxy that delays, stalls and cuts connections."""

import contextlib
import socket
import struct
import threading
import time

from tests.peers import free_port

#: Closing with a linger time of nothing sends RST: the connection is reset, not ended.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """Passes connections to its port on to another, until it is told to do worse."""

    def __init__(self, leads_to: int = 0) -> None:
        self.port = free_port()
        #: The other port; until it is known, connections are reset.
        self.leads_to = leads_to
        #: Seconds that each piece of data is held back.
        self.delay = 0.0
        #: Nothing passes, and nobody is told.
        self.silent = False
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> int:
        """Reset every connection; how many ends there were."""
        ends = list(self._open)
        for end in ends:
            self._reset(end)
        return len(ends)

    def close(self) -> None:
        """Pass nothing on any more."""
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return  # Closed.
            try:
                far = socket.create_connection(("127.0.0.1", self.leads_to))
            except OSError:
                self._reset(near)
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {near, far}
            ended: list[socket.socket] = []
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other, ended), name="wire", daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, ended: list[socket.socket]) -> None:
        """What one end says, until it says no more; when the other had ended before, both are closed."""
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                time.sleep(self.delay)
                while self.silent:
                    time.sleep(0.02)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
            ended.append(one)
            if other in ended:
                self._open -= {one, other}
                one.close()
                other.close()
            return
        self._reset(other)

    def _reset(self, end: socket.socket) -> None:
        self._open.discard(end)
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Wakes the thread that reads from it; the last of the two closes it.
            end.shutdown(socket.SHUT_RDWR)
            end.close()
