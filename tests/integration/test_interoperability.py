"""Every transfer syntax and every SOP class, between the node and each peer, in both directions.

docs/reference/interoperability.md tells of what is shown here; a test holds the two together.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

from config.routes import Destination, RouteTable
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.sender import Address, send
from dicom_node.sop_classes import RECEIVED
from tests.factory import write, xa
from tests.htj2k import HIGH_THROUGHPUT
from tests.listening import listening
from tests.peers import echoscu, free_port, orthanc, storescp, wait_until
from tests.web import Web, serving

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "interoperability.md"

#: In which the corpus is, and the bits stored of its pictures.
BITS = {
    ExplicitVRLittleEndian: 12,
    ImplicitVRLittleEndian: 12,
    DeflatedExplicitVRLittleEndian: 12,
    ExplicitVRBigEndian: 12,
    JPEGLosslessSV1: 12,
    JPEGLossless: 12,
    JPEGLSLossless: 12,
    JPEG2000Lossless: 12,
    RLELossless: 12,
    JPEGBaseline8Bit: 8,
    JPEGExtended12Bit: 12,
    JPEGLSNearLossless: 12,
    JPEG2000: 12,
    HTJ2KLossless: 16,
    HTJ2KLosslessRPCL: 12,
    HTJ2K: 8,
}
#: Of dcmtk 3.6.7, on which Debian's Orthanc 1.10.1 is built too, no part knows these: they cannot send them.
UNKNOWN = dict.fromkeys(("dcmtk", "Orthanc"), HIGH_THROUGHPUT)
STUDY = generate_uid()

#: The port of a peer, and what gives the files that it has got.
Receiver = tuple[int, Callable[[], list[Path]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A cine in each transfer syntax, and an object of each SOP class, all of one study."""
    folder = tmp_path_factory.mktemp("corpus")
    small = {"frames": 2, "rows": 32, "columns": 32, "study_instance_uid": STUDY}
    paths = []
    for syntax, bits in BITS.items():
        cine = xa(bits_stored=bits, sop_instance_uid=generate_uid(), **small)
        path = folder / f"{syntax.keyword}.dcm"
        if syntax == JPEGLossless:
            plain = write(cine, folder / "plain")
            subprocess.run(["dcmcjpeg", "--encode-lossless", "+sv", "4", plain, path], check=True)
        else:
            write(cine, path, syntax)
        paths.append(path)
    for sop_class in RECEIVED:
        cine = xa(sop_class=sop_class, sop_instance_uid=generate_uid(), **small)
        paths.append(write(cine, folder / f"{sop_class.keyword}.dcm"))
    return paths


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path / "node") as web:
        yield web


def known_to(peer: str, corpus: Sequence[Path]) -> list[Path]:
    unknown = {syntax.keyword for syntax in UNKNOWN.get(peer, ())}
    return [path for path in corpus if path.stem not in unknown]


def by_storescu(web: Web, corpus: Sequence[Path], folder: Path) -> None:
    metas = [dcmread(path, stop_before_pixels=True).file_meta for path in corpus]
    pairs = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    how = association_file(folder / "storescu.cfg", [(sop_class, [syntax]) for sop_class, syntax in sorted(pairs)])
    command = ["storescu", *how, "-aec", "FULLFIELD", "127.0.0.1", str(web.node.port), *map(str, corpus)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def by_orthanc(web: Web, corpus: Sequence[Path], folder: Path) -> None:
    with orthanc(folder / "orthanc", **modality(web)) as peer:
        held = [peer.ask("/instances", path.read_bytes())["ID"] for path in corpus]
        told = peer.ask("/modalities/node/store", {"Resources": held, "Synchronous": True})
    assert told["FailedInstancesCount"] == 0


def by_pynetdicom(web: Web, corpus: Sequence[Path], folder: Path) -> None:
    (folder / "sent").mkdir()
    for path in corpus:
        (folder / "sent" / path.name).symlink_to(path)
    run_app("storescu", "-cx", "-aec", "FULLFIELD", "127.0.0.1", str(web.node.port), str(folder / "sent"))


def by_dicomweb_client(web: Web, corpus: Sequence[Path], folder: Path) -> None:  # noqa: ARG001
    web.client().store_instances([dcmread(path) for path in corpus])


SENDERS = {
    "dcmtk": by_storescu,
    "Orthanc": by_orthanc,
    "pynetdicom": by_pynetdicom,
    "dicomweb-client": by_dicomweb_client,
}


@pytest.mark.parametrize("peer", SENDERS)
def test_a_peer_sends_every_transfer_syntax_and_sop_class(peer, web, corpus, tmp_path):
    corpus = known_to(peer, corpus)
    SENDERS[peer](web, corpus, tmp_path)
    stored = {each.sop_instance_uid: web.node.store.path(each.digest) for each in web.node.objects()}
    assert_equal(stored, corpus)


@contextmanager
def to_storescp(folder: Path) -> Iterator[Receiver]:
    taken = [syntax for syntax in BITS if syntax not in UNKNOWN["dcmtk"]]
    how = association_file(folder / "storescp.cfg", [(sop_class, taken) for sop_class in RECEIVED])
    with storescp(folder / "pacs", *how) as peer:
        yield peer.port, peer.files


@contextmanager
def to_orthanc(folder: Path) -> Iterator[Receiver]:
    with orthanc(folder / "pacs") as peer:

        def files() -> list[Path]:
            paths = []
            for instance in peer.get("/instances"):
                paths.append(folder / f"{instance}.dcm")
                paths[-1].write_bytes(peer.read(f"/instances/{instance}/file"))
            return paths

        yield peer.port, files


@contextmanager
def to_pynetdicom(folder: Path) -> Iterator[Receiver]:
    port, out = free_port(), folder / "pacs"
    out.mkdir()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(out), "-ba", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: echoscu(port, called="ANY-SCP").accepted, what="pynetdicom's storescp")
        yield port, lambda: list(out.iterdir())
    finally:
        process.terminate()
        process.wait()


RECEIVERS = {"dcmtk": to_storescp, "Orthanc": to_orthanc, "pynetdicom": to_pynetdicom}


@pytest.mark.parametrize("peer", RECEIVERS)
def test_a_peer_gets_every_transfer_syntax_and_sop_class(peer, corpus, tmp_path):
    corpus = known_to(peer, corpus)
    with RECEIVERS[peer](tmp_path) as (port, files):
        sent = list(send(Address("ORTHANC", "127.0.0.1", port), "FULLFIELD", corpus, 60))
        assert [each.status for each in sent] == [0x0000] * len(corpus)
        assert_equal({str(dcmread(path).SOPInstanceUID): path for path in files()}, corpus)


@pytest.mark.parametrize("peer", UNKNOWN)
def test_what_a_peer_does_not_know_goes_to_it_decoded(peer, corpus, tmp_path):
    sources = {path: dcmread(path) for path in set(corpus) - set(known_to(peer, corpus))}
    assert {each.file_meta.TransferSyntaxUID for each in sources.values()} == set(UNKNOWN[peer])
    with RECEIVERS[peer](tmp_path) as (port, files):
        sent = list(send(Address("ORTHANC", "127.0.0.1", port), "FULLFIELD", list(sources), 60))
        assert [each.status for each in sent] == [0x0000] * len(sources)
        arrived = {each.SOPInstanceUID: each for each in map(dcmread, files())}
    for source in sources.values():
        got = arrived[source.SOPInstanceUID]
        assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert np.array_equal(got.pixel_array, source.pixel_array)
        assert (got.LossyImageCompression, source.file_meta.TransferSyntaxUID == HTJ2K) in (("00", False), ("01", True))


@pytest.mark.parametrize("app", ["findscu", "getscu", "movescu"])
def test_the_apps_of_pynetdicom_find_and_retrieve(app, corpus, tmp_path):
    asked = ["-S", "-aec", "FULLFIELD", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    out = tmp_path / "out"
    out.mkdir()
    with listening(tmp_path / "node") as node:
        node.send(*corpus)
        here = ("127.0.0.1", str(node.port))
        if app == "findscu":
            run_app(app, *asked, "-w", *here, folder=out)
        elif app == "getscu":
            run_app(app, *asked, "-od", str(out), *here)
        else:
            with storescp(out, "+xa", ae_title="VIEWER") as viewer:
                to = Destination(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=viewer.port)
                node.table = RouteTable(destinations=(to,))
                run_app(app, *asked, "-aem", "VIEWER", *here)
    got = [dcmread(path) for path in out.iterdir()]
    assert {each.StudyInstanceUID for each in got} == {STUDY}
    if app != "findscu":
        assert {each.SOPInstanceUID for each in got} == {dcmread(path).SOPInstanceUID for path in corpus}


def test_the_page_tells_of_what_is_shown_here():
    page = PAGE.read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (.+?) \| (.+) \|$", page, re.MULTILINE))
    senders, receivers = " | ".join(SENDERS), " | ".join(RECEIVERS)
    assert f"| | from {senders.replace(' | ', ' | from ')} | to {receivers.replace(' | ', ' | to ')} |" in page
    everywhere = ["yes"] * (len(SENDERS) + len(RECEIVERS))
    rows = dict.fromkeys((each.name for each in (*BITS, *RECEIVED)), everywhere)
    for syntax in HIGH_THROUGHPUT:
        from_peers = ["not shown" if syntax in UNKNOWN.get(peer, ()) else "yes" for peer in SENDERS]
        to_peers = ["decoded" if syntax in UNKNOWN.get(peer, ()) else "yes" for peer in RECEIVERS]
        rows[syntax.name] = from_peers + to_peers
    assert [name for name, cells in rows.items() if told.get(name) != " | ".join(cells)] == []
    assert set(BITS) == set(TRANSFER_SYNTAXES)


def association_file(path: Path, contexts: Sequence[tuple[str, Sequence[UID]]]) -> list[str]:
    """dcmtk's configuration of associations with these contexts, and the options that name it."""
    syntaxes, lines = ["[[TransferSyntaxes]]"], ["[[PresentationContexts]]", "[All]"]
    for number, (sop_class, taken) in enumerate(contexts, start=1):
        syntaxes.append(f"[Set{number}]")
        syntaxes += [f"TransferSyntax{place} = {syntax}" for place, syntax in enumerate(taken, start=1)]
        lines.append(f"PresentationContext{number} = {sop_class}\\Set{number}")
    path.write_text("\n".join([*syntaxes, *lines, "[[Profiles]]", "[Default]", "PresentationContexts = All"]))
    return ["-xf", str(path), "Default"]


def assert_equal(arrived: dict[str, Path], corpus: Sequence[Path]) -> None:
    """Every object has arrived in its transfer syntax, with all attributes and the same encoded pixels."""
    assert len(arrived) == len(corpus)
    for path in corpus:
        sent = dcmread(path)
        got = dcmread(arrived[sent.SOPInstanceUID])
        assert got.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID, path.stem
        assert got == sent, path.stem


def modality(web: Web) -> dict[str, Any]:
    """The node, as Orthanc's configuration names it."""
    return {"DicomModalities": {"node": ["FULLFIELD", "127.0.0.1", web.node.port]}}


def run_app(name: str, *arguments: str, folder: Path | None = None) -> None:
    """One of pynetdicom's command line programs."""
    command = [sys.executable, "-m", "pynetdicom", name, *arguments]
    subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True)
