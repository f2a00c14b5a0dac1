"""The real files that ship inside pydicom and pynetdicom (highdicom has none), sent as they are: what becomes of each.

They are of many makers, and odd on purpose: in every transfer syntax, cut off, with wrong headers, without pixels.
"""

import fnmatch
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import highdicom
import pydicom
import pynetdicom
import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context

from config.errors import Declined
from config.mark import Mark
from config.routes import Destination, RouteTable
from dicom_node.workflow.reconstruction import read_image, results_of
from dicom_node.workflow.routing import facts
from storage.schema import StoredObject
from storage.states import ObjectKind
from tests.listening import Node
from tests.peers import movescu, store_raw, storescp
from tests.web import Web, serving

LIBRARIES = (highdicom, pydicom, pynetdicom)
#: How many of each library are sent, in the versions of constraints.txt.
SENT = {"highdicom": 0, "pydicom": 137, "pynetdicom": 6}
#: Without the header of a file (PS3.10 7.1) nothing says in which transfer syntax a data set is to be sent.
NO_HEADER = "it has no File Meta Information"
#: What else is there, and why it is not sent.
LEFT_OUT = {
    "*/no_meta.dcm": NO_HEADER,
    "*/rtstruct.dcm": NO_HEADER,
    "*/ExplVR_BigEndNoMeta.dcm": NO_HEADER,
    "*/ExplVR_LitEndNoMeta.dcm": NO_HEADER,
    "*/zipMR.gz": "it is MR_small.dcm, packed",
    "*/TINY_ALPHA/*": "50 CT images of a few pixels, all alike, and what lists them",
}
NOT_RECEIVED = "its SOP class is not accepted"
KEPT = "kept, and taken by no route"
COLOR = "The image is in color by SamplesPerPixel (PS3.3 C.7.6.3.1.1); only grey images are reconstructed."
OPEN = "No aperture was found in the pixels."

#: The first pattern that fits the name of a sample says what becomes of it: the status with which it is refused, or
#: the sentence with which it is declined after it was kept as it came.
OUTCOMES = {
    # Without the UIDs in the file's header a request cannot be made.
    "*/empty_charset_LEI.dcm": "no request",
    "*/meta_missing_tsyntax.dcm": "no request",
    "*/CTImageStorage_bad_meta.dcm": "no request",
    "*/nested_priv_SQ.dcm": "no request",
    # The data set has another SOP Instance UID than the file's header.
    "*/chrJapMulti*.dcm": "0xA900",
    # It lacks the UIDs that identify it.
    "*/JPEGLSNearLossless_*.dcm": "0xC000",
    "*/SC_rgb_jls_lossy_*.dcm": "0xC000",
    "*/UN_sequence.dcm": "0xC000",
    "*/chrSQEncoding*.dcm": NOT_RECEIVED,
    "*/chrKoreanMulti.dcm": KEPT,
    "*/charset_files/*": OPEN,
    "*/693_J2KI.dcm": KEPT,
    "*/CT_small.dcm": KEPT,
    "*/CTImageStorage.dcm": KEPT,
    "*/J2K_pixelrep_mismatch.dcm": KEPT,
    "*/ExplVR_BigEnd.dcm": KEPT,
    "*/CR[123]/*": KEPT,
    "*/CT[25]*/*": KEPT,
    "*/examples_overlay.dcm": NOT_RECEIVED,
    "*/liver_*1frame.dcm": KEPT,
    "*/test-SR.dcm": KEPT,
    "*/examples_*.dcm": KEPT,
    "*/GDCMJ2K_TextGBR.dcm": COLOR,
    "*/SC_*_odd*.dcm": COLOR,
    "*/SC_rgb_*.dcm": COLOR,
    "*/SC_jpeg_*.dcm": COLOR,
    "*/SC_ybr_*.dcm": COLOR,
    # The codestream has no end, or goes on behind what the header says.
    "*/JPEG2000-embedded-sequence-delimiter.dcm": "Frame 1 of 1 cannot be decoded from JPEG 2000 Image Compression: "
    "PixelData are corrupt (PS3.5 8.2); send the object again.",
    # Its scan header is not that of a sequential JPEG, which is mended.
    "*/JPEG-lossy.dcm": OPEN,
    "*/JPEG2000.dcm": OPEN,
    "*/JPGExtended.dcm": OPEN,
    "*/image_dfl.dcm": OPEN,
    "*/SCImageStorage_Deflated.dcm": OPEN,
    "*/MR*": NOT_RECEIVED,
    "*/priv_SQ.dcm": NOT_RECEIVED,
    # Radiotherapy.
    "*/RTImageStorage.dcm": NOT_RECEIVED,
    "*/badVR.dcm": NOT_RECEIVED,
    "*/no_meta_group_length.dcm": NOT_RECEIVED,
    "*/rtdose*.dcm": NOT_RECEIVED,
    "*/rtplan*.dcm": NOT_RECEIVED,
    # Other reports, waveforms, palettes and directories.
    "*/reportsi*.dcm": NOT_RECEIVED,
    "*/waveform_ecg.dcm": NOT_RECEIVED,
    "*/palettes/*": NOT_RECEIVED,
    "*/DICOMDIR*": NOT_RECEIVED,
}


#: What HTTP has no name for (PS3.18 8.7.3.5.2): dcmtk's movescu has it sent to a storescp.
BY_C_MOVE = {ImplicitVRLittleEndian, ExplicitVRBigEndian}


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("node")) as web:
        yield web


def files() -> dict[str, Path]:
    """Every file that may be DICOM, by its name: by what it begins with, or since its name does not say otherwise."""
    found = {}
    for library in LIBRARIES:
        folder = Path(str(library.__file__)).parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (path.suffix in ("", ".dcm", ".gz") or path.read_bytes()[128:132] == b"DICM"):
                found[f"{library.__name__}/{path.relative_to(folder)}"] = path
    return found


def first_that_fits(name: str, patterns: dict[str, str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)


FILES = files()
SAMPLES = {name: path for name, path in FILES.items() if first_that_fits(name, LEFT_OUT) is None}


def test_every_file_is_sent_or_left_out_for_a_reason_and_has_one_end():
    assert Counter(name.partition("/")[0] for name in SAMPLES) == Counter(SENT)
    assert {first_that_fits(name, OUTCOMES) for name in SAMPLES} == set(OUTCOMES)
    assert {first_that_fits(name, LEFT_OUT) for name in FILES} == {*LEFT_OUT, None}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_kept_and_given_out_byte_for_byte_or_refused_and_its_end_is_told(
    name, web, reconstructor, tmp_path
):
    expected = OUTCOMES[first_that_fits(name, OUTCOMES)]
    assert outcome(SAMPLES[name], web, reconstructor, tmp_path) == expected


def outcome(path: Path, web: Web, reconstructor, folder: Path) -> str:
    node = web.node
    meta = dcmread(path, stop_before_pixels=True).file_meta
    if not all(map(meta.get, ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"))):
        return "no request"
    if not accepts(node, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID):
        return NOT_RECEIVED
    sent = data_set_bytes(path)
    status = store(node, sent, meta)
    if status != 0x0000:
        return f"0x{status:04X}"
    ((stored, kept),) = [
        (stored, file) for stored in node.objects() if data_set_bytes(file := node.store.path(stored.digest)) == sent
    ]
    if stored.kind != ObjectKind.ASIDE:
        assert given_out(stored, web, folder) == sent
    else:
        # The image in another form came before, and is what is given out. Of a node that has this form alone, it is.
        with serving(folder / "alone") as alone:
            assert store(alone.node, sent, meta) == 0x0000
            assert given_out(*alone.node.objects(), alone, folder) == sent
    try:
        source = read_image(kept)
        if facts(source, "", "").barred:
            return KEPT
        results_of(source, reconstructor, route="all", mark=Mark(), mode="mean")
    except Declined as error:
        return str(error)
    return "reconstructed"


def store(node: Node, sent: bytes, meta: FileMetaDataset) -> int | None:
    return store_raw(
        node.port,
        sent,
        sop_instance_uid=meta.MediaStorageSOPInstanceUID,
        sop_class_uid=meta.MediaStorageSOPClassUID,
        context=meta.MediaStorageSOPClassUID,
        transfer_syntax=meta.TransferSyntaxUID,
    )


def given_out(stored: StoredObject, web: Web, folder: Path) -> bytes:
    """The data set that a client gets which takes it as it is kept."""
    uids = stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    syntax = stored.transfer_syntax_uid
    if syntax not in BY_C_MOVE:
        place = "/studies/{}/series/{}/instances/{}".format(*uids)
        answer = web.get(place, f"application/dicom; transfer-syntax={syntax}")
        assert answer.status_code == 200
        return behind_header(answer.content)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    asked = {"QueryRetrieveLevel": "IMAGE", **dict(zip(keywords, uids, strict=True))}
    with storescp(folder / "got", "+xa", ae_title="VIEWER") as viewer:
        to = Destination(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=viewer.port)
        web.node.table = RouteTable(destinations=(to,))
        assert movescu(web.node.port, "VIEWER", **asked).accepted
        (got,) = viewer.files()
    return data_set_bytes(got)


def accepts(node: Node, sop_class: str, syntax: str) -> bool:
    contexts = [build_context(sop_class, syntax)]
    association = AE("ASK").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
    accepted = bool(association.accepted_contexts)
    if association.is_established:
        association.release()
    return accepted


def data_set_bytes(path: Path) -> bytes:
    """What follows the File Meta Information."""
    return behind_header(path.read_bytes())


def behind_header(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]
