"""The log of a test: configured as a node does it, and put back as it was."""

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from dicom_node.logs import configure_logs


@contextmanager
def captured_log(level: str = "debug", stream: io.StringIO | None = None) -> Iterator[io.StringIO]:
    """Everything that is logged, one JSON object a line; stream: where it goes."""
    stream = stream or io.StringIO()
    root = logging.getLogger()
    handlers, root_level, hook = root.handlers[:], root.level, threading.excepthook
    configure_logs("json", level, stream)
    try:
        yield stream
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(root_level)
        threading.excepthook = hook
