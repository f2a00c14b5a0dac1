"""The real files that ship inside pydicom and pynetdicom, sent as they are: what becomes of each.

They are of many makers, and odd on purpose: in every transfer syntax, cut off, with wrong headers, without pixels.
"""

import fnmatch
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pynetdicom
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context

from config.errors import Declined
from config.mark import Mark
from dicom_node.workflow.reconstruction import read_image, results_of
from dicom_node.workflow.routing import facts
from storage.schema import StoredObject
from storage.states import ObjectKind
from tests.listening import Node
from tests.peers import getscu, store_raw
from tests.web import Web, serving

FOLDERS = {
    "pydicom": Path(pydicom.__file__).parent / "data",
    "pynetdicom": Path(pynetdicom.__file__).parent / "tests" / "dicom_files",
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
    # MR, radiotherapy, waveforms, other reports, palettes, and directories.
    "*": NOT_RECEIVED,
}


#: What HTTP has no name for (PS3.18 8.7.3.5.2) is asked for by C-GET, with dcmtk's option for it.
BY_DIMSE = {ImplicitVRLittleEndian: "+xi"}


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("node")) as web:
        yield web


def samples() -> dict[str, Path]:
    """Every part-10 file, by its name, but for a hundred that are all alike."""
    found = {}
    for library, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.read_bytes()[128:132] == b"DICM" and "TINY_ALPHA" not in path.parts:
                found[f"{library}/{path.relative_to(folder)}"] = path
    return found


SAMPLES = samples()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_kept_and_given_out_byte_for_byte_or_refused_and_its_end_is_told(
    name, web, reconstructor, tmp_path
):
    expected = next(said for pattern, said in OUTCOMES.items() if fnmatch.fnmatchcase(name, pattern))
    assert outcome(SAMPLES[name], web, reconstructor, tmp_path) == expected


def outcome(path: Path, web: Web, reconstructor, folder: Path) -> str:
    node = web.node
    meta = dcmread(path, stop_before_pixels=True).file_meta
    if not {"MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"} <= set(meta.dir()):
        return "no request"
    sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
    if not accepts(node, sop_class, syntax):
        return NOT_RECEIVED
    sent = data_set_bytes(path)
    status = store_raw(
        node.port,
        sent,
        sop_instance_uid=meta.MediaStorageSOPInstanceUID,
        sop_class_uid=sop_class,
        context=sop_class,
        transfer_syntax=syntax,
    )
    if status != 0x0000:
        return f"0x{status:04X}"
    # Some samples are one image in several forms, of which the later are kept aside.
    ((stored, kept),) = [
        (stored, file) for stored in node.objects() if data_set_bytes(file := node.store.path(stored.digest)) == sent
    ]
    # HTTP has no big endian, and getscu does not ask for the class of the sample that is in it.
    if stored.kind != ObjectKind.ASIDE and syntax != ExplicitVRBigEndian:
        assert given_out(stored, syntax, web, folder) == sent
    try:
        source = read_image(kept)
        if facts(source, "", "").barred:
            return KEPT
        results_of(source, reconstructor, route="all", mark=Mark(), mode="mean")
    except Declined as error:
        return str(error)
    return "reconstructed"


def given_out(stored: StoredObject, syntax: str, web: Web, folder: Path) -> bytes:
    """The data set that a client gets which takes it as it is kept."""
    uids = stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    if syntax not in BY_DIMSE:
        place = "/studies/{}/series/{}/instances/{}".format(*uids)
        answer = web.get(place, f"application/dicom; transfer-syntax={syntax}")
        assert answer.status_code == 200
        return behind_header(answer.content)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    asked = {"QueryRetrieveLevel": "IMAGE", **dict(zip(keywords, uids, strict=True))}
    assert getscu(web.node.port, folder / "got", BY_DIMSE[syntax], **asked).accepted
    (got,) = (folder / "got").iterdir()
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
