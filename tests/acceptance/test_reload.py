"""SIGHUP to a running node: it reads the routes again, and a file with a mistake changes nothing."""

import signal
from collections.abc import Iterator

import pytest
from pydicom import dcmread

from storage.schema import AuditRow
from tests.hospital import PACS, Hospital, hospital
from tests.peers import wait_until


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with hospital(tmp_path_factory.mktemp("hospital"), worker={"processes": 0}) as here:
        yield here


def _told(here: Hospital, action: str) -> list[AuditRow]:
    return [row for row in here.node.audit() if row.action == action]


def _route_of_next(here: Hospital) -> str:
    """The route that takes the next object."""
    cine = here.cine()
    assert here.push(cine).accepted
    uid = dcmread(cine).SOPInstanceUID
    (row,) = [row for row in _told(here, "route_matched") if row.sop_instance_uid == uid]
    return str(row.details["route"])


def _write_routes(here: Hospital, **route: object) -> None:
    here.node.write_routes({"pacs": here.pacs.port}, {"pacs": PACS}, **route)


def test_new_routes_are_in_force_without_a_restart(here: Hospital) -> None:
    assert _route_of_next(here) == "all"
    pid, before = here.node.pid, len(_told(here, "routes_loaded"))
    _write_routes(here, name="angio")
    here.node.tell(signal.SIGHUP)
    wait_until(lambda: len(_told(here, "routes_loaded")) > before, what="the routes to be loaded")
    assert _told(here, "routes_loaded")[-1].details["routes"] == ["angio"]
    assert _route_of_next(here) == "angio"
    assert here.node.pid == pid


def test_a_file_with_a_mistake_changes_nothing_and_is_told(here: Hospital) -> None:
    before = _route_of_next(here)
    _write_routes(here, name="broken", prioritty=80)
    here.node.tell(signal.SIGHUP)
    (row,) = wait_until(lambda: _told(here, "routes_refused"), what="the routes to be refused")
    assert row.outcome == "refused"
    assert "routes.toml" in row.details["reason"]
    assert "prioritty" in row.details["reason"]
    assert _route_of_next(here) == before
    _write_routes(here, name="mended")
    here.node.tell(signal.SIGHUP)
    wait_until(lambda: _told(here, "routes_loaded")[-1].details["routes"] == ["mended"], what="the mended routes")
    assert _route_of_next(here) == "mended"
