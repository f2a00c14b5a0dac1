"""Answers that are sent while they are made, so that none is ever whole in memory (PS3.18 8.6.1, RFC 2387)."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import anyio
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from config.errors import FullfieldError
from dicom_node.network.dicomweb.media_types import RELATED

log = structlog.get_logger()

#: Bytes that are read and sent at once.
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a message, or all of one that has no parts."""

    #: With its parameters.
    media_type: str
    content: Iterable[bytes]


class Sending(StreamingResponse):
    """An answer made of pieces. When one cannot be made any more the connection ends, and so the client is told.

    What prevents the first piece is raised here, while another answer can still be given.
    on_end: called when the last piece is sent, or no more can be.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        media_type: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        first = next(pieces, b"")
        self._pieces = pieces
        self._on_end = on_end
        super().__init__(chain([first], pieces), status, headers, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        except* FullfieldError as errors:
            # The server closes the connection of an answer that does not come to its end.
            log.warning("an answer broke off", reason=str(errors.exceptions[0]))
        finally:
            # Even when the client is gone: files that were made for it are removed, and it is accounted for.
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._end)

    def _end(self) -> None:
        if close := getattr(self._pieces, "close", None):
            close()
        self._on_end()


def related(parts: Iterator[Part], type_: str) -> tuple[Iterator[bytes], str]:
    """The parts as a message, and its media type; type_: that of the parts."""
    boundary = uuid.uuid4().hex

    def pieces() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.media_type}\r\n\r\n".encode()
            yield from part.content
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return pieces(), f'{RELATED}; type="{type_}"; boundary={boundary}'


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes from where it stands."""
    while piece := file.read(_PIECE):
        yield piece
