"""Associations over TLS, with dcmtk and OpenSSL at the other end (PS3.15 B.12)."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from config.errors import ConfigError, PeerUnavailable
from config.listener import AllowedPeer, FurtherTitle
from config.routes import Destination, RouteTable
from dicom_node.audit import Action
from dicom_node.checks import Level, check_certificates
from dicom_node.network import tls
from dicom_node.network.contexts import commitment_contexts
from dicom_node.network.sender import Address, associated, echo, identified, send
from dicom_node.network.tls import Credentials
from dicom_node.workflow.delivery import Courier
from storage.database import Database
from storage.files import ObjectStore
from storage.states import DeliveryState
from tests.captured_log import captured_log
from tests.certificates import Authority, Issued
from tests.integration.test_commitment import XA, ask
from tests.listening import QUICK, Node, cine, listening
from tests.peers import Orthanc, echoscu, free_port, orthanc, storescp, storescu, wait_until
from tests.stored_jobs import deliveries, reconstructed, steps, story


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"), "Hospital")


@pytest.fixture(scope="module")
def carm(hospital: Authority) -> Issued:
    return hospital.issue("carm1.hospital")


@pytest.fixture(scope="module")
def own(hospital: Authority) -> Issued:
    return hospital.issue("fullfield.hospital", "127.0.0.1")


@pytest.fixture
def node(tmp_path: Path, hospital: Authority, own: Issued) -> Iterator[Node]:
    allow = (AllowedPeer(ae_title="CARM", certificate="carm1.hospital"), AllowedPeer(ae_title="PLAIN"))
    with listening(tmp_path, tls=hospital.settings(own), tls_port=free_port(), allow=allow) as node:
        yield node


def s_client(port: int, *options: str) -> str:
    """What openssl's client says of a handshake, and of what the peer makes of it."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def refused_because(node: Node) -> str:
    """The reason in the one audit row of a connection that was not secured."""
    (row,) = wait_until(lambda: node.rows("connection_not_secured"))
    assert (row.outcome, row.peer_address) == ("refused", "127.0.0.1")
    return str(row.details["reason"])


def test_storescu_sends_over_tls_and_the_bytes_are_kept(node, hospital, carm, tmp_path):
    path = cine(tmp_path)
    told = storescu(node.listener.tls_port, path, *hospital.dcmtk(carm), calling="CARM")
    assert told.statuses == [0x0000]
    (kept,) = node.objects()
    assert kept.calling_ae == "CARM"
    assert data_set(node.store.path(kept.digest)) == data_set(path)


def data_set(path: Path) -> bytes:
    """The bytes of a file behind its File Meta Information."""
    return path.read_bytes()[identified(path).data_set_begins :]


def test_the_plain_port_beside_it_serves_those_who_need_no_certificate(node):
    assert echoscu(node.port, calling="PLAIN").accepted


def test_a_title_that_is_bound_to_a_certificate_is_refused_without_tls(node):
    assert "Calling AE Title Not Recognized" in echoscu(node.port, calling="CARM").output
    reason = node.refusal().details["reason"]
    assert reason == "Its AE title is allowed over TLS only, with the certificate of carm1.hospital."


def test_a_title_that_is_bound_to_a_certificate_is_refused_with_that_of_another(node, hospital):
    other = hospital.issue("carm2.hospital")
    told = echoscu(node.listener.tls_port, *hospital.dcmtk(other), calling="CARM")
    assert "Calling AE Title Not Recognized" in told.output
    reason = node.refusal().details["reason"]
    assert reason == "Its AE title is allowed with the certificate of carm1.hospital, not with that of carm2.hospital."


def test_each_title_binds_its_callers_to_certificates_of_its_own(tmp_path, hospital, own, carm):
    lab = FurtherTitle(ae_title="LAB", allow=(AllowedPeer(ae_title="CARM", certificate="carm2.hospital"),))
    allow = (AllowedPeer(ae_title="CARM", certificate="carm1.hospital"),)
    other = hospital.issue("carm2.hospital")
    with listening(tmp_path, tls=hospital.settings(own), tls_port=free_port(), allow=allow, titles=(lab,)) as node:
        may = {
            (called, shown.certificate): echoscu(
                node.listener.tls_port, *hospital.dcmtk(shown), calling="CARM", called=called
            ).accepted
            for called in ("FULLFIELD", "LAB")
            for shown in (carm, other)
        }
        assert may == {
            ("FULLFIELD", carm.certificate): True,
            ("FULLFIELD", other.certificate): False,
            ("LAB", carm.certificate): False,
            ("LAB", other.certificate): True,
        }
        assert len(node.rows("association_refused")) == 2


def test_without_a_plain_port_only_tls_is_spoken(tmp_path, hospital, own, carm):
    with listening(tmp_path, tls=hospital.settings(own), port=0, tls_port=free_port()) as node:
        assert echoscu(node.port, *hospital.dcmtk(carm)).accepted
        assert not echoscu(node.port).accepted
        assert refused_because(node) == "It does not speak TLS."


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("rsa_bits", [0, 2048], ids=["ecdsa", "rsa"])
def test_openssl_negotiates_what_the_profile_asks_for(node, hospital, version, rsa_bits):
    shown = hospital.openssl(hospital.issue("carm1.hospital", rsa_bits=rsa_bits))
    with (
        captured_log() as log,
        subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{node.listener.tls_port}", version, *shown],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client,
    ):
        said, _ = client.communicate(b"Q\n", timeout=60)
    assert "Verify return code: 0 (ok)" in said.decode()
    assert "_GCM_" in said.decode() or "-GCM-" in said.decode()
    assert "not secured" not in log.getvalue()


@pytest.fixture(scope="module")
def certificates(
    tmp_path_factory: pytest.TempPathFactory, hospital: Authority, carm: Issued
) -> dict[str, Issued | None]:
    """What a peer may show."""
    return {
        "good": carm,
        "none": None,
        "stranger": Authority(tmp_path_factory.mktemp("elsewhere"), "Elsewhere").issue("carm1.hospital"),
        "expired": hospital.issue("carm1.hospital", days=-1),
        "short key": hospital.issue("carm1.hospital", rsa_bits=1024),
    }


_NO_VERSION = "It speaks no TLS of version 1.2 or 1.3."
_NO_CIPHER_SUITE = "It has no cipher suite that is accepted here."
_NOT_SHOWN = "It showed no certificate."
_STRANGE = "Its certificate is not trusted: unable to get local issuer certificate."
_TOO_SHORT = "Its certificate is not trusted: EE certificate key too weak."
_EXPIRED = "Its certificate is not trusted: certificate has expired."


@pytest.mark.parametrize(
    ("shows", "options", "reason"),
    [
        ("good", ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], _NO_VERSION),
        ("good", ["-tls1_2", "-cipher", "AES256-SHA"], _NO_CIPHER_SUITE),
        ("good", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], _NO_CIPHER_SUITE),
        ("none", ["-tls1_2"], _NOT_SHOWN),
        ("none", ["-tls1_3"], _NOT_SHOWN),
        ("stranger", [], _STRANGE),
        ("expired", [], _EXPIRED),
        ("short key", ["-cipher", "DEFAULT@SECLEVEL=0"], _TOO_SHORT),
    ],
    ids=lambda value: "".join(value[:2]) if isinstance(value, list) else None,
)
def test_openssl_is_refused_and_told_why_by_an_alert(node, hospital, certificates, shows, options, reason):
    with captured_log() as log:
        said = s_client(node.listener.tls_port, *options, *hospital.openssl(certificates[shows]))
        assert refused_because(node) == reason
    assert "alert" in said
    assert reason in log.getvalue()


@pytest.mark.parametrize(
    ("shows", "options", "reason"),
    [
        # Its retired profile: up to TLS 1.2, and only with AES in CBC mode.
        ("good", ["+pa"], _NO_CIPHER_SUITE),
        ("none", [], _NOT_SHOWN),
        ("stranger", [], _STRANGE),
        ("expired", [], _EXPIRED),
    ],
)
def test_dcmtk_is_refused(node, hospital, certificates, shows, options, reason):
    with captured_log() as log:
        told = echoscu(node.listener.tls_port, *hospital.dcmtk(certificates[shows]), *options, calling="CARM")
        assert not told.accepted
        assert refused_because(node) == reason
    assert reason in log.getvalue()


def test_a_peer_that_says_nothing_is_given_up_and_holds_up_nobody(node, hospital, carm, monkeypatch):
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 1.0)
    silent = [socket.create_connection(("127.0.0.1", node.listener.tls_port)) for _ in range(20)]
    assert echoscu(node.listener.tls_port, *hospital.dcmtk(carm), calling="CARM").accepted
    wait_until(lambda: len(node.rows("connection_not_secured")) == len(silent))
    assert {row.details["reason"] for row in node.rows("connection_not_secured")} == {
        "It did not complete the TLS handshake within 1 s."
    }
    for connection in silent:
        connection.close()


def test_certificates_are_read_again_without_dropping_associations(tmp_path, hospital, own, carm):
    files = SimpleNamespace(certificate=tmp_path / "own.crt", key=tmp_path / "own.key")
    own = hospital.issue("fullfield.hospital", "127.0.0.1", days=10)
    files.certificate.write_bytes(own.certificate.read_bytes())
    files.key.write_bytes(own.key.read_bytes())
    with listening(tmp_path, tls=hospital.settings(files), tls_port=free_port()) as node:
        peer = Address("FULLFIELD", "127.0.0.1", node.listener.tls_port, tls=True, certificate="fullfield.hospital")
        paths = [cine(tmp_path, "1.dcm"), cine(tmp_path, "2.dcm", sop_instance_uid="1.2.3")]
        sending = send(peer, "CARM", paths, 30, Credentials(hospital.settings(carm)))
        next(sending)
        renewed = Authority(tmp_path / "new", "New")
        new = renewed.issue("fullfield.hospital")
        files.certificate.write_bytes(new.certificate.read_bytes())
        with pytest.raises(ConfigError, match="is not the key of"):
            node.credentials.reload()
        files.key.write_bytes(new.key.read_bytes())
        node.credentials.reload()
        assert [sent.status for sent in sending] == [0x0000]
        assert len(node.objects()) == 2
        with pytest.raises(PeerUnavailable, match="unable to get local issuer certificate"):
            echo(peer, "CARM", 30, Credentials(hospital.settings(carm)))
        assert refused_because(node) == "It does not trust the certificate of this node."


def test_a_report_on_storage_commitment_goes_to_a_new_association_over_the_tls_of_the_peer(
    tmp_path, hospital, own, carm
):
    allow = AllowedPeer(ae_title="CARM", certificate="carm1.hospital", port=free_port())
    with listening(tmp_path, tls=hospital.settings(own), tls_port=free_port(), allow=(allow,)) as node:
        own_of_carm = Credentials(hospital.settings(carm))
        peer = Address("FULLFIELD", "127.0.0.1", node.listener.tls_port, tls=True)
        path = cine(tmp_path)
        list(send(peer, "CARM", [path], 30, own_of_carm))
        with associated(peer, "CARM", commitment_contexts(), 30, credentials=own_of_carm) as association:
            assert ask(association, [(XA, dcmread(path).SOPInstanceUID)]) == 0
        reports = []

        def take(event):
            reports.append(event.event_information)
            return 0, None

        scu = AE("CARM")
        scu.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=hospital.file)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(carm.certificate, carm.key)
        handlers = [(evt.EVT_N_EVENT_REPORT, take)]
        server = scu.start_server(("127.0.0.1", allow.port), block=False, ssl_context=context, evt_handlers=handlers)
        try:
            wait_until(lambda: reports)
            (told,) = wait_until(lambda: node.rows("commitment_reported"))
        finally:
            server.shutdown()
        assert told.details["over"] == "a new association"
        assert len(reports[0].ReferencedSOPSequence) == 1


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, hospital) -> Iterator[Address]:
    options = hospital.dcmtk(hospital.issue("pacs.hospital"))
    with storescp(tmp_path_factory.mktemp("pacs") / "pacs", *options, "+xa", ae_title="PACS") as peer:
        yield Address("PACS", "127.0.0.1", peer.port, tls=True, certificate="pacs.hospital")


def test_storescp_takes_objects_over_tls(pacs, hospital, own, tmp_path):
    (sent,) = send(pacs, "FULLFIELD", [cine(tmp_path)], 30, Credentials(hospital.settings(own)))
    assert sent.status == 0x0000


@contextmanager
def orthanc_over_tls(folder: Path, hospital: Authority, node: Node) -> Iterator[Orthanc]:
    """Orthanc with a certificate of the hospital's, which knows the node."""
    its = hospital.issue("orthanc.hospital")
    tls = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(its.certificate),
        "DicomTlsPrivateKey": str(its.key),
        "DicomTlsTrustedCertificates": str(hospital.file),
        "DicomModalities": {
            "node": {"AET": "FULLFIELD", "Host": "127.0.0.1", "Port": node.listener.tls_port, "UseDicomTls": True}
        },
    }
    with orthanc(folder / "orthanc", **tls) as peer:
        yield peer


@pytest.fixture
def allowing_orthanc(tmp_path: Path, hospital: Authority, own: Issued) -> Iterator[Node]:
    names = {"ORTHANC": "orthanc.hospital", "CARM": "carm1.hospital"}
    allow = tuple(AllowedPeer(ae_title=title, certificate=name) for title, name in names.items())
    with listening(tmp_path, tls=hospital.settings(own), tls_port=free_port(), allow=allow) as node:
        yield node


def test_orthanc_sends_and_takes_objects_over_tls(allowing_orthanc, hospital, own, tmp_path):
    with orthanc_over_tls(tmp_path, hospital, allowing_orthanc) as peer:
        it = Address("ORTHANC", "127.0.0.1", peer.port, tls=True, certificate="orthanc.hospital")
        path = cine(tmp_path)
        (sent,) = send(it, "FULLFIELD", [path], 30, Credentials(hospital.settings(own)))
        assert sent.status == 0x0000
        (instance,) = peer.get("/instances")
        peer.ask("/modalities/node/store", {"Resources": [instance]})
    assert allowing_orthanc.kept == [dcmread(path).SOPInstanceUID]


def test_orthanc_has_a_study_sent_to_itself_over_tls(allowing_orthanc, hospital, carm, tmp_path):
    node, path = allowing_orthanc, cine(tmp_path)
    assert storescu(node.listener.tls_port, path, *hospital.dcmtk(carm), calling="CARM").accepted
    with orthanc_over_tls(tmp_path, hospital, node) as peer:
        itself = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": peer.port}
        destination = Destination(**itself, tls=True, certificate="orthanc.hospital")
        node.table = RouteTable(destinations=(destination,))
        study = dcmread(path).StudyInstanceUID
        moved = {"Level": "Study", "Resources": [{"StudyInstanceUID": study}], "TargetAet": "ORTHANC"}
        peer.ask("/modalities/node/move", moved)
        (instance,) = peer.get("/instances")
        held = dcmread(BytesIO(peer.read(f"/instances/{instance}/file")))
    assert held.SOPInstanceUID == dcmread(path).SOPInstanceUID
    assert held.PixelData == dcmread(path).PixelData


def test_a_destination_with_the_certificate_of_another_is_not_sent_to(pacs, hospital, own):
    elsewhere = Address("PACS", "127.0.0.1", pacs.port, tls=True)
    with pytest.raises(PeerUnavailable, match=r"certificate is that of pacs.hospital, not of 127.0.0.1"):
        echo(elsewhere, "FULLFIELD", 30, Credentials(hospital.settings(own)))


def test_a_destination_of_a_stranger_is_not_sent_to(pacs, own, tmp_path):
    stranger = Authority(tmp_path / "elsewhere", "Elsewhere")
    with pytest.raises(PeerUnavailable, match="self-signed certificate in certificate chain"):
        echo(pacs, "FULLFIELD", 30, Credentials(stranger.settings(own)))


@contextmanager
def openssl_server(*options: str) -> Iterator[int]:
    """A port on which openssl's server asks for a certificate, and then knows no DICOM."""
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-Verify", "1", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            assert any(line.startswith(b"ACCEPT") for line in server.stdout)
            yield port
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("shows", "options", "reason"),
    [
        ("good", ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], _NO_VERSION),
        ("good", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], "It accepts no cipher suite of this node."),
        ("stranger", [], _STRANGE),
        ("expired", [], _EXPIRED),
        ("short key", ["-cipher", "DEFAULT@SECLEVEL=0"], _TOO_SHORT),
    ],
    ids=lambda value: "".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_delivery_to_an_openssl_server_that_is_not_as_the_profile_asks_is_postponed_and_told_why(
    tmp_path, hospital, own, certificates, shows, options, reason
):
    database, store = Database(f"sqlite:///{tmp_path / 'fullfield.db'}"), ObjectStore(tmp_path / "store")
    database.migrate()
    job = reconstructed(database, store, "pacs", objects=1)
    with openssl_server(*options, *hospital.openssl(certificates[shows])) as port:
        pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        table = RouteTable(destinations=(Destination(**pacs, tls=True, certificate="carm1.hospital"),))
        courier = Courier(
            database,
            store,
            QUICK,
            table=lambda: table,
            calling_ae="FULLFIELD",
            name="node",
            credentials=Credentials(hospital.settings(own)),
        )
        courier.start()
        wait_until(lambda: Action.DELIVERY_POSTPONED in steps(database, job), what="a postponed delivery")
        courier.stop()
    told = next(row for row in story(database, job) if row.action == Action.DELIVERY_POSTPONED)
    (delivery,) = deliveries(database, job)
    database.close()
    assert told.details["reason"] == f"PACS at 127.0.0.1:{port} cannot be called over TLS: {reason}"
    assert delivery.state == DeliveryState.WAITING


def test_nothing_falls_back_to_a_connection_without_tls(hospital, own, tmp_path):
    with storescp(tmp_path / "plain", ae_title="PACS") as peer:
        plain = Address("PACS", "127.0.0.1", peer.port, tls=True)
        with pytest.raises(PeerUnavailable, match="cannot be called over TLS"):
            list(send(plain, "FULLFIELD", [cine(tmp_path)], 30, Credentials(hospital.settings(own))))
        with pytest.raises(PeerUnavailable, match=r"the settings have no `tls.certificate`"):
            list(send(plain, "FULLFIELD", [cine(tmp_path)], 30))
        assert peer.files() == []


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [(365, Level.OK, "is valid until"), (20, Level.WARN, "expires in 19 days"), (-2, Level.FAIL, "has expired on")],
)
def test_doctor_tells_how_long_a_certificate_is_valid(hospital, days, level, said):
    findings = list(check_certificates(hospital.settings(hospital.issue("fullfield.hospital", days=days))))
    assert [finding.about for finding in findings] == ["certificate", "authority"]
    assert findings[0].level == level
    assert f"that of fullfield.hospital in {hospital.file.parent}" in findings[0].said
    assert said in findings[0].said


def test_doctor_tells_who_is_missing_between_a_certificate_and_its_authority(tmp_path, hospital):
    department = Authority(tmp_path, "Department", by=hospital)
    issued = department.issue("fullfield.hospital")
    settings = hospital.settings(issued)
    finding = list(check_certificates(settings))[-1]
    assert (finding.level, finding.about) == (Level.WARN, "certificate")
    assert "the certificate of Department is missing" in finding.said
    issued.certificate.write_bytes(issued.certificate.read_bytes() + department.file.read_bytes())
    assert {finding.level for finding in check_certificates(settings)} == {Level.OK}


def test_doctor_warns_of_a_key_that_others_can_read(hospital):
    issued = hospital.issue("fullfield.hospital")
    issued.key.chmod(0o644)
    finding = list(check_certificates(hospital.settings(issued)))[-1]
    assert (finding.level, finding.about) == (Level.WARN, "tls")
    assert "can be read by others" in finding.said


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("certificate", None, "tls.certificate: .* cannot be read"),
        ("certificate", "rubbish", "do not hold a certificate and its unencrypted key"),
        ("authorities", "rubbish", "tls.authorities: .* holds no certificate"),
        ("key", "of another", "tls.key: .* is not the key of .*"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path, hospital, own, file, content, said):
    if content == "of another":
        (tmp_path / "file").write_bytes(hospital.issue("other.hospital").key.read_bytes())
    elif content is not None:
        (tmp_path / "file").write_text(content)
    settings = hospital.settings(own).model_copy(update={file: tmp_path / "file"})
    with pytest.raises(ConfigError, match=said):
        Credentials(settings)
    (finding,) = check_certificates(settings)
    assert finding.level == Level.FAIL


def test_an_encrypted_key_is_told_and_no_password_is_asked_for(tmp_path, hospital, own):
    key = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", own.key, "-aes256", "-passout", "pass:secret", "-out", key], check=True, timeout=60
    )
    with pytest.raises(ConfigError, match="unencrypted key"):
        Credentials(hospital.settings(own).model_copy(update={"key": key}))
