"""A disk that runs low and full under a whole node: it warns, makes room, refuses, and takes up again by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.files import ObjectStore
from tests.disks import disk, filled
from tests.factory import write, xa
from tests.nodes import LONG, NodeProcess
from tests.peers import free_port, storescu, wait_until

OUT_OF_RESOURCES = 0xA700
DISK_MB, LOW_MB, FULL_MB = 48, 24, 4


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """On a disk of its own, without workers; what it has received may make room."""
    with disk(tmp_path / "disk", megabytes=DISK_MB) as root:
        marks = {"root": str(root), "full_below_mb": FULL_MB, "low_below_mb": LOW_MB}
        retention = {"retention": {"originals_make_room": True}}
        # No route takes what is sent: its jobs would keep it.
        route = {"match": {"calling_ae": ["NOBODY"]}}
        process = NodeProcess(
            tmp_path / "node", {"pacs": free_port()}, worker={"processes": 0}, route=route, storage=marks | retention
        )
        with process.running():
            yield process


def test_it_warns_makes_room_refuses_and_takes_up_again(node: NodeProcess, tmp_path: Path) -> None:
    root = tmp_path / "disk"
    first, second, third = (write(xa(frames=16, seed=n), tmp_path / f"{n}.dcm") for n in (1, 2, 3))
    assert storescu(node.port, first).accepted
    with filled(root, leaving=(LOW_MB - 4) << 20):
        wait_until(lambda: node.told("disk_low"), what="the warning", seconds=LONG)
        wait_until(lambda: node.told("object_deleted") == 1, what="room to be made", seconds=LONG)
        assert storescu(node.port, second).accepted
    wait_until(lambda: node.told("disk_has_room"), what="the end of the warning", seconds=LONG)
    with filled(root, leaving=FULL_MB << 19):
        assert storescu(node.port, third).statuses == [OUT_OF_RESOURCES]
        wait_until(lambda: node.told("disk_full"), what="the alarm", seconds=LONG)
        assert not list(ObjectStore(root).incoming.iterdir())
    wait_until(lambda: node.told("disk_has_room") == 2, what="room again", seconds=LONG)
    assert storescu(node.port, third).accepted
    assert node.told("object_received") == 3
    assert "the disk is low" in node.log.read_text()
