"""What a request is refused with: an HTTP status and a sentence (PS3.18 8.5)."""

from collections.abc import Mapping

from config.errors import FullfieldError


class Problem(FullfieldError):
    """A request cannot be answered as asked: whoever asks mends it, or time does (503)."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = dict(headers or {})
