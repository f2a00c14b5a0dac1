"""A stop comes to its end within its time, whoever hangs, and the next start has all that was under way."""

import configparser
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.node import STOP_SECONDS
from storage.schema import Delivery
from storage.transitions import JobState
from tests.harness.wire import Wire
from tests.hospital import Hospital, hospital, shows
from tests.nodes import LONG, kill
from tests.peers import storescu, wait_until

CHECKOUT = Path(__file__).parents[2]
#: Seconds that a peer would be waited for, were there no end to a stop.
AN_HOUR = 3600


def time_of_the_unit() -> int:
    """Seconds after which systemd kills a node that it has told to end."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(CHECKOUT / "config" / "examples" / "fullfield.service")
    return int(unit["Service"]["TimeoutStopSec"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, delivery={"timeout_seconds": AN_HOUR}) as here:
        yield here


@contextmanager
def a_sender_that_hangs(here: Hospital, cine: Path) -> Iterator[threading.Thread]:
    """One that sends half an object, and from then on nothing, not even that it is gone."""
    wire = Wire(here.node.port)
    wire.delay = 0.05
    sender = threading.Thread(target=storescu, args=(wire.port, cine), daemon=True)
    sender.start()
    wait_until(lambda: received_in_part(here), what="half an object")
    wire.silent = True
    assert received_in_part(here)
    yield sender
    wire.silent = False
    wire.close()
    sender.join()


def received_in_part(here: Hospital) -> list[Path]:
    """Files of objects that are being received."""
    return list((here.node.folder / "var" / "incoming").glob("*.dcm"))


def is_being_sent(here: Hospital) -> bool:
    """Whether the node is about to send a result."""
    database = here.node.database()
    with database.reading() as tx:
        owners = [delivery.lease_owner for delivery in tx.query(Delivery)]
    database.close()
    return any(owners)


def test_a_stop_ends_in_its_time_while_sender_and_pacs_hang_and_the_next_start_has_all(here: Hospital) -> None:
    kill(here.pacs.pid, signal.SIGSTOP)
    made, cut_short, under_way = here.cine(), here.cine(frames=16, rows=512, columns=512, aperture=None), here.cine(4)
    assert here.push(made).accepted
    wait_until(lambda: is_being_sent(here), what="the delivery to begin", seconds=LONG)
    with a_sender_that_hangs(here, cut_short) as sender:
        assert here.push(under_way).accepted
        wait_until(lambda: here.node.jobs()[-1].state == JobState.RUNNING, what="the worker to begin", seconds=LONG)
        # Cut off after STOP_SECONDS it would end with 1; how long it takes is waited for, but not for a peer's hour.
        assert here.node.stop() == 0
        assert sender.is_alive()
    assert received_in_part(here) == []
    assert [(job.state, job.attempts, job.reason) for job in here.node.jobs()] == [
        (JobState.DELIVERING, 1, None),
        (JobState.QUEUED, 0, "the worker was stopped"),
    ]
    assert here.node.audit()[-1].action == "node_stopped"
    assert "Traceback" not in here.node.log.read_text()
    kill(here.pacs.pid, signal.SIGCONT)
    here.node.start()
    assert here.push(cut_short).accepted
    jobs = here.node.wait_until_settled(3)
    assert [job.state for job in jobs] == [JobState.DELIVERED, JobState.DELIVERED, JobState.DECLINED]
    assert all(shows(here.result(cine), cine) for cine in (made, under_way))


def test_systemd_and_containers_are_told_to_wait_for_longer_than_a_stop_takes() -> None:
    assert time_of_the_unit() > STOP_SECONDS
    told = (CHECKOUT / "docs" / "how-to" / "container.md").read_text()
    assert f"--stop-timeout {time_of_the_unit()} " in told
    assert f"at most {STOP_SECONDS:g} s" in (CHECKOUT / "docs" / "how-to" / "install.md").read_text()
