"""WADO-RS: what is held is retrieved by HTTP, whole or in parts, as it is stored or as it is wanted (PS3.18 10.4)."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    XRayRadiationDoseSRStorage,
)

from dicom_node.network.dicomweb import retrieve_requests
from storage.schema import AuditRow
from tests.factory import write, xa
from tests.integration.test_samples import SAMPLES
from tests.peers import wait_until
from tests.web import Web, serving

STUDY = "1.2.3"
SERIES = "1.2.3.1"
#: What is held: the number at the end of its UID, and its transfer syntax.
HELD = {
    1: ExplicitVRLittleEndian,
    2: JPEG2000Lossless,
    3: ImplicitVRLittleEndian,
    4: JPEGLSLossless,
    5: JPEGBaseline8Bit,
    6: ExplicitVRBigEndian,
    8: HTJ2KLossless,
    9: HTJ2KLosslessRPCL,
    10: HTJ2K,
}
ANY = (("application/dicom", "*"),)
PLAIN = (("application/octet-stream", "*"),)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[int, Path]:
    """Cines of one series, and a report in another."""
    folder = tmp_path_factory.mktemp("sources")
    paths = {}
    for number, syntax in HELD.items():
        dataset = xa(
            frames=3,
            rows=60,
            columns=64,
            bits_stored=8 if syntax == JPEGBaseline8Bit else 12,
            study_instance_uid=STUDY,
            series_instance_uid=SERIES,
            sop_instance_uid=f"{SERIES}.{number}",
            instance_number=number,
            seed=number,
            patient_name="Ärmel^Übel",
        )
        paths[number] = write(dataset, folder / f"{number}.dcm", syntax)
    report = xa(
        sop_class=XRayRadiationDoseSRStorage,
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.2",
        sop_instance_uid="1.2.3.2.1",
        missing=["PixelData", "Rows", "Columns", "NumberOfFrames"],
        Modality="SR",
    )
    paths[7] = write(report, folder / "7.dcm")
    return paths


@pytest.fixture(scope="module")
def web(tmp_path_factory, sources) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as served:
        assert served.post([path.read_bytes() for path in sources.values()]).status_code == 200
        yield served


def instance(number: int) -> tuple[str, str, str]:
    return STUDY, SERIES, f"{SERIES}.{number}"


def at(number: int, further: str = "") -> str:
    return f"/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.{number}{further}"


def kept(web: Web, number: int) -> bytes:
    """The file in the object store."""
    (row,) = [row for row in web.node.objects() if row.sop_instance_uid == f"{SERIES}.{number}"]
    return web.node.store.path(row.digest).read_bytes()


def parts_of(response: requests.Response) -> list[tuple[str, bytes]]:
    """Media type and content of each part."""
    assert response.headers["Content-Type"].startswith("multipart/related")
    boundary = response.headers["Content-Type"].rpartition("boundary=")[2].encode()
    found = []
    for piece in response.content.split(b"--" + boundary)[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        found.append((head.decode().partition("Content-Type: ")[2], content.removesuffix(b"\r\n")))
    return found


def ended(web: Web, number: int) -> list[AuditRow]:
    """So many ends of retrievals; an end is accounted for when the client has all."""
    return wait_until(lambda: len(rows := web.node.rows("retrieved")) >= number and rows)


# Whole objects


def test_dicomweb_client_retrieves_a_study_a_series_and_an_object(web):
    client = web.client()
    study = client.retrieve_study(STUDY)
    assert {each.SOPInstanceUID for each in study} == {*(f"{SERIES}.{number}" for number in HELD), "1.2.3.2.1"}
    assert len(study) == len(HELD) + 1
    assert len(client.retrieve_series(STUDY, SERIES)) == len(HELD)
    got = client.retrieve_instance(*instance(2), media_types=("application/dicom",))
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (got.pixel_array == pixel_array(web.node.store.path(digest_of(web, 2)))).all()
    # The client can read as it comes, too.
    assert len(list(client.iter_series(STUDY, SERIES, media_types=ANY))) == len(HELD)


def digest_of(web: Web, number: int) -> str:
    (row,) = [row for row in web.node.objects() if row.sop_instance_uid == f"{SERIES}.{number}"]
    return row.digest


@pytest.mark.parametrize("number", [1, 2, 4, 5, 8, 9, 10])
def test_in_any_transfer_syntax_an_object_comes_byte_for_byte_as_it_is_kept(web, number):
    response = web.get(at(number), 'multipart/related; type="application/dicom"; transfer-syntax=*')
    assert parts_of(response) == [(f"application/dicom; transfer-syntax={HELD[number]}", kept(web, number))]


def test_one_object_may_come_alone_and_several_may_not(web):
    response = web.get(at(1), "application/dicom")
    assert (response.headers["Content-Type"], response.content) == ("application/dicom", kept(web, 1))
    assert web.get(f"/studies/{STUDY}", "application/dicom").status_code == 406


@pytest.mark.parametrize("number", HELD)
def test_without_a_transfer_syntax_every_object_comes_in_explicit_little_endian(web, sources, number):
    ((media_type, content),) = parts_of(web.get(at(number), 'multipart/related; type="application/dicom"'))
    assert media_type == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    got, source = dcmread(BytesIO(content)), dcmread(sources[number])
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert got.PatientName == "Ärmel^Übel"
    assert (got.pixel_array == source.pixel_array).all()


@pytest.mark.parametrize("number", [3, 6])
def test_what_http_does_not_know_comes_in_explicit_little_endian_even_in_any_form(web, number):
    ((media_type, _),) = parts_of(web.get(at(number), "multipart/related; type=application/dicom; transfer-syntax=*"))
    assert media_type.endswith(ExplicitVRLittleEndian)


@pytest.mark.parametrize("number", [1, 2])
def test_a_picture_is_compressed_anew_where_that_loses_nothing(web, sources, number):
    wanted = f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'
    ((_, content),) = parts_of(web.get(at(number), wanted))
    got = dcmread(BytesIO(content))
    assert got.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert (got.pixel_array == dcmread(sources[number]).pixel_array).all()


def test_the_second_choice_is_taken_where_the_first_cannot_be_had(web):
    accept = ", ".join(
        f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        for syntax in (JPEGBaseline8Bit, JPEG2000Lossless)
    )
    ((media_type, _),) = parts_of(web.get(at(4), accept))
    assert media_type.endswith(JPEG2000Lossless)


# Metadata and bulk data


def test_dicomweb_client_reads_the_metadata_and_the_bulk_data_that_they_name(web, sources):
    client = web.client()
    assert len(client.retrieve_study_metadata(STUDY)) == len(HELD) + 1
    assert len(client.retrieve_series_metadata(STUDY, SERIES)) == len(HELD)
    told = client.retrieve_instance_metadata(*instance(1))
    place = told["7FE00010"]["BulkDataURI"]
    assert place == f"{web.url}{at(1)}/bulkdata/7FE00010"
    (value,) = client.retrieve_bulkdata(place)
    assert value == dcmread(sources[1]).PixelData
    read = Dataset.from_json({tag: element for tag, element in told.items() if tag != "7FE00010"})
    source = dcmread(sources[1], stop_before_pixels=True)
    assert read.PatientName == source.PatientName == "Ärmel^Übel"
    assert read.AvailableTransferSyntaxUID == ExplicitVRLittleEndian
    del read.SpecificCharacterSet, source.SpecificCharacterSet, read.AvailableTransferSyntaxUID
    assert read == source


def test_metadata_come_as_xml_too(web):
    ((media_type, content),) = parts_of(web.get(at(2, "/metadata"), 'multipart/related; type="application/dicom+xml"'))
    assert media_type == "application/dicom+xml"
    root = ElementTree.fromstring(content)
    (pixels,) = [node for node in root if node.get("tag") == "7FE00010"]
    assert pixels.find("BulkData").get("uri") == f"{web.url}{at(2)}/bulkdata/7FE00010"


@pytest.mark.parametrize("number", [2, 6])
def test_pixel_data_come_decoded_as_one_value(web, sources, number):
    response = web.get(at(number, "/bulkdata/7FE00010"), "application/octet-stream")
    assert response.content == dcmread(sources[number]).pixel_array.astype("<u2").tobytes()


def test_a_large_value_of_the_header_has_an_address_of_its_own(tmp_path):
    table = bytes(range(256)) * 8
    dataset = xa(RedPaletteColorLookupTableData=table, RedPaletteColorLookupTableDescriptor=[1024, 0, 16])
    path = write(dataset, tmp_path / "one.dcm", ExplicitVRBigEndian)
    with serving(tmp_path / "web") as web:
        assert web.post([path.read_bytes()]).status_code == 200
        client = web.client()
        uids = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
        told = client.retrieve_instance_metadata(*uids)
        (value,) = client.retrieve_bulkdata(told["00281201"]["BulkDataURI"])
        # Stored big endian by dcmtk, told little endian.
        assert value == table


# Frames


def test_dicomweb_client_retrieves_frames_decoded_and_as_stored(web, sources):
    client = web.client()
    stored = dcmread(sources[2])
    frames = client.retrieve_instance_frames(*instance(2), [3, 1], media_types=PLAIN[:1])
    assert frames == [stored.pixel_array[index].tobytes() for index in (2, 0)]
    coded = client.retrieve_instance_frames(*instance(2), [2], media_types=(("image/jp2", JPEG2000Lossless),))
    assert coded == [get_frame(stored.PixelData, 1, number_of_frames=3)]
    # Who does not say which form gets pixels.
    assert client.retrieve_instance_frames(*instance(2), [1]) == [stored.pixel_array[0].tobytes()]
    # It does not know of image/jphc.
    assert client.retrieve_instance_frames(*instance(9), [1]) == [dcmread(sources[9]).pixel_array[0].tobytes()]
    assert client.retrieve_instance_frames(*instance(1), [2]) == [dcmread(sources[1]).pixel_array[1].tobytes()]


@pytest.mark.parametrize(
    ("number", "accept", "media_type"),
    [
        (4, 'multipart/related; type="image/jls"', "image/jls"),
        (5, 'multipart/related; type="image/jpeg"; transfer-syntax=*', "image/jpeg"),
        (4, 'multipart/related; type="*/*"; transfer-syntax=*', "image/jls"),
        (8, 'multipart/related; type="image/jphc"', "image/jphc"),
        (9, f'multipart/related; type="image/jphc"; transfer-syntax={HTJ2KLosslessRPCL}', "image/jphc"),
        (10, 'multipart/related; type="image/jphc"; transfer-syntax=*', "image/jphc"),
    ],
)
def test_a_frame_says_in_which_code_it_is(web, sources, number, accept, media_type):
    ((told, content),) = parts_of(web.get(at(number, "/frames/1"), accept))
    assert told == f"{media_type}; transfer-syntax={HELD[number]}"
    assert content == get_frame(dcmread(sources[number]).PixelData, 0, number_of_frames=3)


# Pictures


def shown(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)))


def test_dicomweb_client_has_pictures_rendered(web, sources):
    client = web.client()
    png = client.retrieve_instance_rendered(*instance(1), media_types=("image/png",))
    stored = dcmread(sources[1])
    # The window is all that 12 bits can hold.
    expected = np.round(stored.pixel_array[0] / 4095 * 255)
    assert np.abs(shown(png).astype(float) - expected).max() <= 1
    jpeg = client.retrieve_instance_frames_rendered(*instance(4), [2], media_types=("image/jpeg",))
    assert Image.open(BytesIO(jpeg)).format == "JPEG" and shown(jpeg).shape == (60, 64)


def test_a_window_a_viewport_and_a_part_can_be_asked_for(web, sources):
    dark = shown(web.get(at(1, "/rendered?window=3000,500,linear"), "image/png").content)
    stored = dcmread(sources[1]).pixel_array[0]
    assert (dark[stored < 2750] == 0).all() and (dark[stored > 3250] == 255).all()
    small = web.get(at(1, "/frames/1/rendered?viewport=30,30&accept=image/png"))
    assert small.headers["Content-Type"] == "image/png" and shown(small.content).shape == (28, 30)
    part = shown(web.get(at(1, "/rendered?viewport=20,10,4,2,20,10"), "image/png").content)
    whole = shown(web.get(at(1, "/rendered"), "image/png").content)
    assert (part == whole[2:12, 4:24]).all()


def test_a_thumbnail_is_small_and_stands_for_a_study(web):
    for place in (f"/studies/{STUDY}/thumbnail", f"/studies/{STUDY}/series/{SERIES}/thumbnail", at(2, "/thumbnail")):
        response = web.get(place)
        assert response.headers["Content-Type"] == "image/jpeg"
        assert max(shown(response.content).shape) == 128


def test_pictures_of_several_objects_come_in_parts(web):
    response = web.get(f"/studies/{STUDY}/rendered", 'multipart/related; type="image/jpeg"')
    assert [media_type for media_type, _ in parts_of(response)] == ["image/jpeg"] * len(HELD)


# What cannot be had


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies/1.2.4", "*/*", 404),
        (f"/studies/{STUDY}/series/1.2.4/metadata", "*/*", 404),
        ("/studies/none/metadata", "*/*", 400),
        (at(1), "image/jpeg", 406),
        (at(1), f'multipart/related; type="application/dicom"; transfer-syntax={JPEGBaseline8Bit}', 406),
        (at(1, "/metadata"), "image/jpeg", 406),
        (at(1, "/frames/4"), "*/*", 404),
        (at(1, "/frames/0"), "*/*", 400),
        (at(1, "/frames/one"), "*/*", 400),
        (at(1, "/frames/1"), 'multipart/related; type="image/jpeg"', 406),
        (at(1, "/bulkdata/00100010"), "*/*", 404),
        (at(1, "/bulkdata/pixels"), "*/*", 400),
        (at(1, "/frames/4/rendered"), "*/*", 404),
        (at(1, "/rendered"), "video/mp4", 406),
        (at(1, "/rendered?window=1"), "*/*", 400),
        (at(1, "/rendered?viewport=0,10"), "*/*", 400),
        (at(1, "/rendered?viewport=10,10,90,90,5,5"), "*/*", 406),
        ("/studies/1.2.3/series/1.2.3.2/rendered", "*/*", 406),
        ("/studies/1.2.3/series/1.2.3.2/instances/1.2.3.2.1/frames/1", "*/*", 404),
    ],
)
def test_what_cannot_be_had_is_told_in_one_sentence_and_accounted_for(web, path, accept, status):
    response = web.get(path, accept)
    assert response.status_code == status
    assert response.text.count("\n") == 1 and response.text.endswith(".\n")
    row = web.node.rows("retrieval_refused")[-1]
    assert (row.actor, row.details["status"], row.details["reason"]) == ("dicomweb", status, response.text.strip())


def test_a_lost_file_is_left_out_of_a_series_and_told_of(tmp_path, sources):
    with serving(tmp_path) as web:
        assert web.post([sources[number].read_bytes() for number in (1, 2)]).status_code == 200
        web.node.store.path(digest_of(web, 1)).unlink()
        response = web.get(f"/studies/{STUDY}")
        assert (response.status_code, len(parts_of(response))) == (206, 1)
        (row,) = ended(web, 1)
        assert row.details["not_sent"] == 1
        lost = web.get(at(1, "/frames/1"))
        assert (lost.status_code, lost.text.count("\n")) == (500, 1)


def test_a_file_that_goes_while_it_is_asked_for_is_told_in_a_sentence(tmp_path, sources, monkeypatch):
    with serving(tmp_path) as web:
        assert web.post([sources[number].read_bytes() for number in (1, 2)]).status_code == 200
        web.node.store.path(digest_of(web, 1)).unlink()
        # As retention might have removed it between the look and the reading.
        monkeypatch.setattr(retrieve_requests._Answers, "_held", lambda _, objects: list(objects))
        for further in ("", "/metadata", "/frames/1", "/rendered"):
            response = web.get(at(1, further))
            assert (response.status_code, response.text.count("\n")) == (500, 1)


def test_a_damaged_object_breaks_the_answer_off_and_leaves_nothing_behind(tmp_path, sources):
    with serving(tmp_path) as web:
        assert web.post([sources[number].read_bytes() for number in (1, 2)]).status_code == 200
        path = web.node.store.path(digest_of(web, 2))
        path.write_bytes(path.read_bytes().replace(b"\xff\x4f\xff\x51", b"\xff\x4f\x00\x00"))
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            web.get(f"/studies/{STUDY}")
        (row,) = ended(web, 1)
        assert (row.outcome, row.details["objects"], row.details["not_sent"]) == ("failed", 1, 1)
        assert list(web.node.store.incoming.iterdir()) == []
        assert web.get(at(2)).status_code == 406
        assert web.get(at(2, "/rendered")).status_code == 406


# Accounts


def test_who_is_sent_what_is_in_the_audit_trail_before_and_after(web):
    before = len(web.node.rows("retrieved"))
    web.get(f"/studies/{STUDY}")
    after = ended(web, before + 1)[-1]
    started = web.node.rows("retrieval_started")[-1]
    assert started.id < after.id and after.outcome == "success"
    for row in (started, after):
        assert (row.actor, row.peer_ae, row.peer_address) == ("dicomweb", "DICOMWEB", "127.0.0.1")
        assert (row.study_instance_uid, row.details["objects"]) == (STUDY, len(HELD) + 1)
    web.get(at(1, "/frames/1"))
    row = web.node.rows("retrieved")[-1]
    assert (row.study_instance_uid, row.details["parts"], row.details["objects"]) == (STUDY, "frames 1", 1)


def test_answers_tell_the_port_that_was_called_unless_a_proxy_was(web):
    def told(**headers: str) -> str:
        found = web.get(f"/studies/{STUDY}/series?SeriesInstanceUID={SERIES}", headers=headers).json()
        return found[0]["00081190"]["Value"][0]

    place = f"/dicom-web/studies/{STUDY}/series/{SERIES}"
    port = web.server.port
    assert told(Host="127.0.0.1") == f"http://127.0.0.1:{port}{place}"
    assert told(Host=f"localhost:{port}") == f"http://localhost:{port}{place}"
    assert told(Host="localhost:1") == f"http://localhost:1{place}"
    proxied = {"Host": "localhost", "X-Forwarded-Proto": "https"}
    assert told(**proxied) == f"https://localhost{place}"


def test_what_json_cannot_hold_is_left_out_of_the_metadata(tmp_path):
    dataset = xa(XRayTubeCurrentInuA="inf", PatientWeight="70")
    with serving(tmp_path) as web:
        path = write(dataset, tmp_path / "one.dcm")
        assert web.post([path.read_bytes()]).status_code == 200
        told = web.get(f"/studies/{dataset.StudyInstanceUID}/metadata").text
        (read,) = json.loads(told, parse_constant=lambda _: pytest.fail("no JSON"))
        assert "00188151" not in read and read["00101030"]["Value"] == [70.0]


def test_what_a_client_leaves_behind_that_goes_away_is_accounted_for_and_cleared_away(tmp_path):
    # Larger than what the system takes over from the server at once, and to be decoded first.
    large = write(xa(frames=12, rows=1024, columns=1024, aperture=None), tmp_path / "large.dcm", JPEGLSLossless)
    dataset = dcmread(large, stop_before_pixels=True)
    with serving(tmp_path / "web") as web:
        assert web.post([large.read_bytes()]).status_code == 200
        with requests.get(f"{web.url}/studies/{dataset.StudyInstanceUID}", stream=True, timeout=60) as response:
            assert next(response.iter_content(1000))
        (row,) = ended(web, 1)
        assert (row.outcome, row.details["not_sent"]) == ("failed", 1)
        assert list(web.node.store.incoming.iterdir()) == []


def test_every_sample_that_is_kept_is_given_in_each_form_or_refused_with_a_reason(tmp_path):
    with serving(tmp_path) as web:
        for path in SAMPLES.values():
            web.post([path.read_bytes()])
        held = {row.sop_instance_uid: row for row in web.node.objects() if row.kind != "aside"}
        assert len(held) > 40
        given = 0
        for row in held.values():
            at = f"/studies/{row.study_instance_uid}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
            for further in ("/metadata", "", "/frames/1", "/rendered"):
                response = web.get(at + further)
                assert response.status_code in (200, 404, 406), (row.digest, further, response.text)
                assert response.status_code == 200 or further not in ("/metadata",)
                if not further and response.status_code == 200:
                    ((_, content),) = parts_of(response)
                    given += _same_picture(content, web.node.store.path(row.digest))
        assert given > 20


def _same_picture(content: bytes, stored: Path) -> bool:
    """Whether a sample that pydicom can decode was given with the pixels that pydicom finds in it."""
    try:
        pixels = pixel_array(stored)
    except Exception:
        return False
    assert (pixel_array(BytesIO(content)) == pixels).all(), stored
    return True
