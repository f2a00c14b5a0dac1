"""The log holds no patient data, whoever writes to it."""

import errno
import io
import json
import logging
import sys
import threading
import warnings

import pytest
import structlog
from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage

from config.errors import StorageFull
from dicom_node.logs import configure_logs, hashed
from tests.captured_log import captured_log

UID = "1.2.826.0.1.3680043.8.498.12345678901234567890"
UID_OF_UUID = "2.25.329800735698586629295641978511506172918"


@pytest.fixture
def log():
    with captured_log() as stream:
        yield stream


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_hashed_uid_is_always_the_same_and_not_the_uid():
    assert hashed(UID) == hashed(UID) != hashed(UID_OF_UUID)
    assert UID not in hashed(UID)


@pytest.mark.parametrize(
    "uid", [UID, UID_OF_UUID, "1.2.826.0.1.3680043.8.498.98049299659344748868", "1.3.12.2.1107.5.4"]
)
def test_a_uid_is_hashed_wherever_it_stands(log, uid):
    logger = structlog.get_logger()
    logger.info(f"got {uid}.", sop_instance_uid=uid, text=f"<{uid}>", many=[uid], deep={"series_uid": uid})
    assert uid not in log.getvalue()
    (line,) = lines(log)
    assert line["event"] == f"got {hashed(uid)}."
    assert line["sop_instance_uid"] == hashed(uid)
    assert line["deep"] == {"series_uid": hashed(uid)}


def test_a_short_uid_is_hashed_where_its_key_says_what_it_is(log):
    structlog.get_logger().info("x", study_instance_uid="1.2")
    assert lines(log)[0]["study_instance_uid"] == hashed("1.2")


def test_what_is_no_patients_stays_readable(log):
    structlog.get_logger().info("x", address="10.1.2.3", sop_class_uid=XRayAngiographicImageStorage, version="1.2.3")
    (line,) = lines(log)
    assert line["address"] == "10.1.2.3"
    assert line["sop_class_uid"] == XRayAngiographicImageStorage
    assert line["version"] == "1.2.3"


def test_of_a_foreign_error_only_type_and_place_are_told(log):
    try:
        raise ValueError("Invalid value 'Invented^Patient'")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(log)
    assert line["error"] == "ValueError"
    assert line["at"].startswith("test_logs.py:")
    assert "Invented" not in log.getvalue()


def test_an_error_of_ours_says_its_sentence(log):
    try:
        raise StorageFull("The disk is full.")
    except StorageFull:
        structlog.get_logger().exception("failed")
    assert lines(log)[0]["said"] == "The disk is full."


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom.dimse", "py.warnings", "sqlalchemy.engine"])
def test_libraries_that_see_patient_data_are_heard_without_their_words(log, library):
    logging.getLogger(library).error("Invalid value 'Invented^Patient'")
    (line,) = lines(log)
    assert line["level"] == "error"
    assert line["library"].startswith(f"{library}.test_libraries")
    assert "Invented" not in log.getvalue()


def test_other_libraries_are_heard_with_theirs_but_without_uids(log):
    logging.getLogger("alembic").warning("upgraded %s", UID)
    assert lines(log)[0]["event"] == f"upgraded {hashed(UID)}"


def test_pynetdicom_is_not_heard_below_a_warning(log):
    logging.getLogger("pynetdicom").info("Affected SOP Instance UID: %s", UID)
    assert log.getvalue() == ""


def test_a_warning_of_pydicom_does_not_quote_the_value(log):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        Dataset().StudyInstanceUID = "Invented^Patient"
    assert "a library warned" in log.getvalue()
    assert "Invented" not in log.getvalue()


def test_a_thread_that_dies_is_told_without_a_traceback(log, capfd):
    def die():
        raise KeyError("Invented^Patient")

    thread = threading.Thread(target=die, name="reader@1")
    thread.start()
    thread.join()
    (line,) = lines(log)
    assert (line["error"], line["thread"]) == ("KeyError", "reader")
    assert "Invented" not in log.getvalue() + capfd.readouterr().err


def test_levels_below_the_one_set_are_not_written():
    with captured_log("warning") as log:
        structlog.get_logger().info("not this")
        structlog.get_logger().warning("but this")
    assert [line["event"] for line in lines(log)] == ["but this"]


def test_the_console_format_is_a_line_for_people(capsys):
    with captured_log():
        configure_logs("console", "info", sys.stderr)
        structlog.get_logger().info("object kept", sop_instance_uid=UID)
    said = capsys.readouterr().err
    assert "object kept" in said
    assert hashed(UID) in said


class FullDisk(io.StringIO):
    """A stream that takes nothing for so many lines."""

    def __init__(self, refuses):
        super().__init__()
        self.refuses = refuses

    def write(self, text):
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_stops_nobody_and_tells_what_it_lost():
    with captured_log(stream=FullDisk(refuses=2)) as stream:
        for name in ("first", "second", "third"):
            structlog.get_logger().info(name)
    told, third = stream.getvalue().splitlines()
    assert told == "2 lines of the log could not be written."
    assert json.loads(third)["event"] == "third"
