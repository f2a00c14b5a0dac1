"""The built-in archive against dcmtk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, JPEGLosslessSV1, generate_uid

from dicom_node.network.archive import Archive
from dicom_node.network.sender import Address, echo, send
from tests.factory import write, xa
from tests.peers import echoscu, encoded, store_raw, storescu


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "archive", "127.0.0.1", 0, "ARCHIVE")
    archive.start()
    yield archive
    archive.stop(2)


def place(folder: Path, header) -> Path:
    study = folder / "archive" / header.StudyInstanceUID
    return study / header.SeriesInstanceUID / f"{header.SOPInstanceUID}.dcm"


def archived(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "archive").rglob("*") if path.is_file())


def test_an_object_lies_under_its_study_and_series(archive, tmp_path):
    path = write(xa(), tmp_path / "a.dcm", JPEGLosslessSV1)
    assert storescu(archive.port, path, "-xs", called="ARCHIVE").accepted
    header = dcmread(path)
    assert archived(tmp_path) == [place(tmp_path, header)]
    assert dcmread(place(tmp_path, header)) == header


def test_any_storage_class_and_any_called_title_will_do(archive, tmp_path):
    path = write(xa(sop_class=CTImageStorage), tmp_path / "ct.dcm")
    assert storescu(archive.port, path, called="WHOEVER").accepted
    assert echoscu(archive.port, called="WHOEVER").accepted


def test_an_object_sent_again_takes_its_own_place(archive, tmp_path):
    uids = {
        "sop_instance_uid": generate_uid(),
        "series_instance_uid": generate_uid(),
        "study_instance_uid": generate_uid(),
    }
    for seed in (1, 2):
        path = write(xa(seed=seed, **uids), tmp_path / "a.dcm")
        assert storescu(archive.port, path).accepted
    (kept,) = archived(tmp_path)
    assert dcmread(kept).PixelData == dcmread(path).PixelData


def test_our_own_sender_delivers_to_it(archive, tmp_path):
    here = Address("ARCHIVE", "127.0.0.1", archive.port)
    paths = [write(xa(), tmp_path / f"{number}.dcm") for number in range(3)]
    echo(here, "FULLFIELD", 30)
    assert [sent.status for sent in send(here, "FULLFIELD", paths, 30)] == [0x0000] * 3
    assert len(archived(tmp_path)) == 3


@pytest.mark.parametrize("uid", ["..", ".", "../../x", "/etc"])
def test_no_uid_leads_out_of_the_folder(archive, tmp_path, uid):
    image = xa(study_instance_uid=uid)
    assert store_raw(archive.port, encoded(image), sop_instance_uid=image.SOPInstanceUID) == 0xC000
    assert archived(tmp_path) == []


def test_a_data_set_of_another_instance_is_refused(archive, tmp_path):
    assert store_raw(archive.port, encoded(xa()), sop_instance_uid=generate_uid()) == 0xA900
    assert archived(tmp_path) == []
