"""Media types as requests name them, and which of ours answers one (PS3.18 8.7, RFC 9110 12.5.1)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

#: Commas that stand outside of quotes.
_COMMAS = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')

DICOM = "application/dicom"
JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
JPEG = "image/jpeg"
PNG = "image/png"
RELATED = "multipart/related"


@dataclass(frozen=True, kw_only=True)
class MediaType:
    """One media type of a request, in lower case, with its parameters."""

    name: str
    parameters: Mapping[str, str]
    #: 0 to 1; the higher is wanted more.
    quality: float = 1.0

    @property
    def part(self) -> str:
        """Of multipart/related the media type of its parts; of others its own."""
        return self.parameters.get("type", "").lower() or "*/*" if self.name == RELATED else self.name

    @property
    def has_parts(self) -> bool:
        """Whether a message of several parts falls under it."""
        return self.name in (RELATED, "*/*")

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax that it names, `*` for any (PS3.18 8.7.3.5.2); empty where it names none."""
        return self.parameters.get("transfer-syntax", "")

    def takes(self, name: str) -> bool:
        """Whether a media type falls under it."""
        return matches(self.name, name)


def matches(range_: str, name: str) -> bool:
    """Whether a media type falls under a range such as ``image/*``."""
    return range_ in ("*/*", name) or (range_.endswith("/*") and name.startswith(range_[:-1]))


def read_media_type(text: str) -> MediaType:
    """A Content-Type header."""
    name, parameters = parse_options_header(text)
    return MediaType(
        name=name.decode("latin-1"),
        parameters={key.decode("latin-1"): value.decode("latin-1") for key, value in parameters.items()},
    )


def read_accepted(text: str | None) -> list[MediaType]:
    """An Accept header, what is wanted most first; without one anything is wanted."""
    found = sorted(_ranges(text or "*/*"), key=lambda range_: -range_.quality)
    return [range_ for range_ in found if range_.quality > 0]


def preferred(accepted: Sequence[MediaType], offered: Sequence[str]) -> str | None:
    """What is wanted most of the media types that are offered; of several the one that is offered first."""
    for range_ in accepted:
        for name in offered:
            if range_.takes(name):
                return name
    return None


def _ranges(text: str) -> Iterator[MediaType]:
    for piece in _COMMAS.split(text):
        if not piece.strip():
            continue
        found = read_media_type(piece.strip())
        try:
            quality = float(found.parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        yield MediaType(name=found.name, parameters=found.parameters, quality=quality)
