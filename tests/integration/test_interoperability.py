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
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
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
    XAXRFGrayscaleSoftcopyPresentationStateStorage,
    XRayRadiofluoroscopicImageStorage,
    generate_uid,
)

from config.mark import Mark
from config.objects import ObjectProfile
from config.routes import Destination, RouteTable
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.sender import Address, echo, send
from dicom_node.sop_classes import RECEIVED
from dicom_node.workflow.reconstruction import objects_of
from tests.beside import dose_report, presentation_state, single_bit_capture, true_colour_capture
from tests.dciodvfy import errors_in
from tests.enhanced import enhanced_xa, enhanced_xrf
from tests.factory import reconstruction, write, xa
from tests.htj2k import HIGH_THROUGHPUT
from tests.listening import listening
from tests.other_images import computed_radiograph, cone_beam_run, ct, digital_radiograph, ultrasound
from tests.peers import echoscu, free_port, orthanc, qrscp, storescp, wait_until
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
SMALL = {"frames": 2, "rows": 40, "columns": 48, "study_instance_uid": STUDY}
#: What dciodvfy calls an error of an enhanced image and is none: RF is allowed (PS3.3 C.8.19.1), and nothing is
#: synchronized (A.47).
OVERRULED = ("<RF> for value 1 of attribute <Modality>", "Module=<Synchronization>")

#: The port of a peer, and what gives the files that it has got.
Receiver = tuple[int, Callable[[], list[Path]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A cine in each transfer syntax, and a real object of each SOP class, all of one study."""
    folder = tmp_path_factory.mktemp("corpus")
    paths = []
    for syntax, bits in BITS.items():
        cine = xa(bits_stored=bits, **SMALL)
        path = folder / f"{syntax.keyword}.dcm"
        if syntax == JPEGLossless:
            plain = write(cine, folder / "plain")
            subprocess.run(["dcmcjpeg", "--encode-lossless", "+sv", "4", plain, path], check=True)
        else:
            write(cine, path, syntax)
        paths.append(path)
    made = {each.SOPClassUID: each for each in objects_of_the_room()}
    paths += [write(made[sop_class], folder / f"{sop_class.keyword}.dcm") for sop_class in RECEIVED]
    return paths


def objects_of_the_room() -> Iterator[Dataset]:
    """An object of each SOP class, as a room sends it or as this node makes it."""
    cine = xa(**SMALL)
    yield from results(cine)
    yield from results(cine, "single_frames")
    yield from results(xa(bits_stored=8, **SMALL))
    yield cine
    yield xa(sop_class=XRayRadiofluoroscopicImageStorage, Modality="RF", **SMALL)
    yield enhanced_xa(**SMALL)
    yield enhanced_xrf(**SMALL)
    yield single_bit_capture(cine)
    yield true_colour_capture(cine)
    yield dose_report(cine)
    yield presentation_state(cine)
    yield presentation_state(cine, XAXRFGrayscaleSoftcopyPresentationStateStorage)
    yield cone_beam_run(cine)
    yield ct(cine)
    yield computed_radiograph(cine)
    yield digital_radiograph(cine)
    yield digital_radiograph(cine, DigitalXRayImageStorageForProcessing)
    yield ultrasound(cine)
    yield ultrasound(cine, frames=2)


def results(cine: Dataset, profile: ObjectProfile = "multiframe_sc") -> list[Dataset]:
    """The pictures of a cine, and what goes beside them."""
    return objects_of(cine, reconstruction(cine), route="all", mark=Mark(), profile=profile).all()


def test_the_object_of_each_class_is_really_one_of_it(corpus):
    of_classes = {path.stem: path for path in corpus[len(BITS) :]}
    assert list(of_classes) == [each.keyword for each in RECEIVED]
    # dciodvfy does not know of it; tests/integration/test_passing_on.py judges the same by the standard's tables.
    del of_classes[XAXRFGrayscaleSoftcopyPresentationStateStorage.keyword]
    for path in of_classes.values():
        assert [line for line in errors_in(path) if not any(each in line for each in OVERRULED)] == [], path.stem


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
    out = folder / "pacs"
    out.mkdir()
    with app("storescp", "-od", str(out)) as port:
        yield port, lambda: list(out.iterdir())


@contextmanager
def to_qrscp(folder: Path) -> Iterator[Receiver]:
    with qrscp(folder / "pacs") as peer:
        yield peer.port, peer.files


RECEIVERS = {"dcmtk": to_storescp, "Orthanc": to_orthanc, "pynetdicom": to_pynetdicom}


@pytest.mark.parametrize(("peer", "receiver"), [*RECEIVERS.items(), ("pynetdicom qrscp", to_qrscp)])
def test_a_peer_gets_every_transfer_syntax_and_sop_class(peer, receiver, corpus, tmp_path):
    corpus = known_to(peer, corpus)
    with receiver(tmp_path) as (port, files):
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


def test_the_echo_of_pynetdicom_is_answered(tmp_path):
    with listening(tmp_path) as node:
        told = run_app("echoscu", "-v", "-aec", "FULLFIELD", "127.0.0.1", str(node.port))
    assert "Received Echo Response (Status: 0x0000 - Success)" in told


def test_pynetdicom_answers_an_echo():
    with app("echoscp") as port:
        echo(Address("ECHOSCP", "127.0.0.1", port), "FULLFIELD", 30)


@pytest.mark.parametrize("name", ["findscu", "getscu", "movescu"])
def test_the_apps_of_pynetdicom_find_and_retrieve(name, corpus, tmp_path):
    asked = ["-S", "-aec", "FULLFIELD", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    out = tmp_path / "out"
    out.mkdir()
    with listening(tmp_path / "node") as node:
        node.send(*corpus)
        here = ("127.0.0.1", str(node.port))
        if name == "findscu":
            run_app(name, *asked, "-w", *here, folder=out)
        elif name == "getscu":
            run_app(name, *asked, "-od", str(out), *here)
        else:
            with storescp(out, "+xa", ae_title="VIEWER") as viewer:
                to = Destination(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=viewer.port)
                node.table = RouteTable(destinations=(to,))
                run_app(name, *asked, "-aem", "VIEWER", *here)
    got = [dcmread(path) for path in out.iterdir()]
    assert {each.StudyInstanceUID for each in got} == {STUDY}
    if name != "findscu":
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


def run_app(name: str, *arguments: str, folder: Path | None = None) -> str:
    """What one of pynetdicom's command line programs says."""
    command = [sys.executable, "-m", "pynetdicom", name, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True, text=True)
    return done.stdout + done.stderr


@contextmanager
def app(name: str, *arguments: str) -> Iterator[int]:
    """One of pynetdicom's servers; its port."""
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", name, str(port), "-ba", "127.0.0.1", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: echoscu(port, called="ANY-SCP").accepted, what=f"pynetdicom's {name}")
        yield port
    finally:
        process.terminate()
        process.wait()
