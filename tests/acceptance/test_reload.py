"""SIGHUP to a running node: it reads routes and certificates again, and a file with a mistake changes nothing."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from dicom_node.network.sender import Address, associated
from dicom_node.network.tls import Credentials
from storage.schema import AuditRow
from tests.certificates import Authority
from tests.hospital import PACS, Hospital, hospital
from tests.peers import echoscu, free_port, wait_until

TLS_PORT = free_port()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Hospital")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """The file of the node's certificate and key."""
    issued = authority.issue("127.0.0.1")
    file = tmp_path_factory.mktemp("own") / "node.pem"
    file.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    return file


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, authority: Authority, own: Path) -> Iterator[Hospital]:
    tls = {"certificate": str(own), "authorities": str(authority.file)}
    folder = tmp_path_factory.mktemp("hospital")
    with hospital(folder, worker={"processes": 0}, listener={"tls_port": TLS_PORT}, tls=tls) as here:
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


def test_new_certificates_are_in_force_for_new_associations_and_open_ones_go_on(
    here: Hospital, authority: Authority, own: Path, tmp_path: Path
) -> None:
    carm = authority.issue("carm1.hospital")
    node = Address("FULLFIELD", "127.0.0.1", TLS_PORT, tls=True)
    contexts = [build_context(Verification)]
    with associated(node, "CARM1", contexts, 30, credentials=Credentials(authority.settings(carm))) as association:
        renewed = Authority(tmp_path, "Renewed")
        issued, before = renewed.issue("127.0.0.1"), len(_told(here, "certificates_loaded"))
        own.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
        shutil.copy(renewed.file, authority.file)
        here.node.tell(signal.SIGHUP)
        wait_until(lambda: len(_told(here, "certificates_loaded")) > before, what="the certificates to be loaded")
        assert association.send_c_echo().Status == 0x0000
    assert echoscu(TLS_PORT, *renewed.dcmtk(renewed.issue("carm1.hospital"))).accepted
    assert not echoscu(TLS_PORT, *renewed.dcmtk(carm)).accepted


def test_certificates_that_cannot_be_used_change_nothing_and_are_told(here: Hospital, own: Path) -> None:
    before = len(_told(here, "certificates_loaded"))
    own.write_text("rubbish")
    here.node.tell(signal.SIGHUP)
    (row,) = wait_until(lambda: _told(here, "certificates_refused"), what="the certificates to be refused")
    assert row.outcome == "refused"
    assert f"tls.certificate: {own}" in row.details["reason"]
    assert len(_told(here, "certificates_loaded")) == before
