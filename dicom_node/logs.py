"""The log: what the node does, for whoever runs it, without patient data.

UIDs are hashed wherever they stand. Of an error that is not one of our own only its type and its place in the
code are told, for its text may quote what it stumbled over; the same goes for what DICOM libraries log.

Where the log cannot be written, the node goes on without: its account is the audit trail.
"""

import hashlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import structlog

from config.errors import FullfieldError

#: Libraries that handle patient data: of their messages only origin and level are told.
_WITH_PATIENT_DATA = ("pydicom", "pynetdicom", "highdicom", "py", "sqlalchemy")

#: A UID within a text: at least five components, which an IP address never has, or one made from a UUID.
_UID = re.compile(r"(?<![\d.])(?:[0-2](?:\.\d+){4,}|2\.25\.\d{6,})(?![\d])")
#: UIDs of the standard itself, such as those of SOP classes: everybody's, and worth reading.
_STANDARD = "1.2.840.10008."


def configure_logs(
    format: Literal["console", "json"] = "console", level: str = "info", stream: TextIO | None = None
) -> None:
    """Send the log, and what libraries log and warn of, to standard error or to `stream`.

    format: ``console`` for people, ``json`` for one JSON object a line.
    level: ``debug``, ``info``, ``warning`` or ``error``; libraries are heard from ``warning`` on.
    """
    stream = stream or sys.stderr
    renderer = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _tell_error_by_type_and_place,
            _hash_uids,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Forgiving(stream))),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(logging.WARNING))
    root.setLevel(logging.WARNING)
    threading.excepthook = _log_end_of_thread


def hashed(uid: str) -> str:
    """A UID as the log tells it: the same for the same UID, and no way back."""
    return f"#{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


class _Forgiving:
    """A stream whose disk may fill and whose reader may end: what cannot be written is counted, and told of later."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, line: str) -> int:
        """Write a line, after one that tells of those that were lost before it."""
        try:
            if self._lost:
                self._stream.write(f"{self._lost} lines of the log could not be written.\n")
                self._stream.flush()
                self._lost = 0
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            self._lost += 1
        return len(line)

    def flush(self) -> None:
        """Nothing: each line is flushed as it is written."""


class _Libraries(logging.Handler):
    """Passes what libraries log on to our log, cleaned."""

    def emit(self, record: logging.LogRecord) -> None:
        place = f"{record.name}.{record.funcName}:{record.lineno}"
        quiet = record.name.partition(".")[0] in _WITH_PATIENT_DATA
        message = "a library warned" if quiet else record.getMessage()
        error = record.exc_info if record.exc_info and record.exc_info[1] is not None else None
        structlog.get_logger().log(record.levelno, message, library=place, exc_info=error)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit:
        name = ended.thread.name.partition("@")[0] if ended.thread else "unknown"
        structlog.get_logger().error("a thread ended with an error", thread=name, exc_info=ended.exc_value)


def _tell_error_by_type_and_place(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    told = event.pop("exc_info", None)
    error = _error(told)
    if error is None:
        return event
    event["error"] = type(error).__name__
    if isinstance(error, FullfieldError):
        event["said"] = str(error)
    event["at"] = " < ".join(_places(error.__traceback__))
    return event


def _error(told: Any) -> BaseException | None:
    if isinstance(told, BaseException):
        return told
    if isinstance(told, tuple):
        error: BaseException | None = told[1]
        return error
    return sys.exc_info()[1] if told else None


def _places(trace: TracebackType | None) -> list[str]:
    """The innermost frames first, without the lines of code and the values in them."""
    frames = traceback.extract_tb(trace)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[:-7:-1]]


def _hash_uids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _without_uids(value, all_of_it=key.endswith("_uid"))
    return event


def _without_uids(value: Any, all_of_it: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _without_uids(item, str(key).endswith("_uid")) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_without_uids(item, all_of_it) for item in value]
    if not isinstance(value, str):
        return value
    if all_of_it and not value.startswith((_STANDARD, "#")):
        return hashed(value)
    return _UID.sub(_hashed_match, value)


def _hashed_match(found: re.Match[str]) -> str:
    uid = found.group()
    return uid if uid.startswith(_STANDARD) else hashed(uid)
