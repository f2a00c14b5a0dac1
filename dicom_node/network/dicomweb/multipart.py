"""multipart/related messages as they arrive, part by part, never a part in memory (RFC 2387, PS3.18 8.6.1)."""

from typing import Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

from dicom_node.network.dicomweb.media_types import DICOM, MediaType, read_media_type
from dicom_node.network.dicomweb.problem import Problem


class Parts(Protocol):
    """What takes the parts."""

    def begin(self, media_type: MediaType) -> None:
        """A part begins."""

    def write(self, data: bytes) -> None:
        """More of the part."""

    def end(self) -> None:
        """The part is whole."""


class MultipartReader:
    """Takes a message in any pieces. A message that is none raises Problem (400)."""

    def __init__(self, boundary: str, parts: Parts) -> None:
        self._parts = parts
        self._name, self._value, self._headers = b"", b"", {b"content-type": DICOM.encode()}
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_to_name,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": lambda data, start, end: self._parts.write(data[start:end]),
                    "on_part_end": lambda: self._parts.end(),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Problem(400, "The boundary of the message is none.") from error

    def write(self, data: bytes) -> None:
        """The next piece of the message."""
        if self._ended:
            return  # What follows the last boundary means nothing (RFC 2046 5.1.1).
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem(400, "The message is not made of parts as its Content-Type says.") from error

    def end(self) -> None:
        """No more follows."""
        if not self._ended:
            raise Problem(400, "The message ends before its last boundary.")

    def _begin(self) -> None:
        self._headers = {}
        self._name = self._value = b""

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        named = self._headers.get(b"content-type", DICOM.encode())
        self._parts.begin(read_media_type(named.decode("latin-1")))

    def _end(self) -> None:
        self._ended = True
