"""Results on their way, compressed without loss where dcmtk's storescp or Orthanc takes it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from config.mark import Mark
from config.objects import ObjectProfile
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.network.contexts import UNCOMPRESSED
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.workflow import compression
from dicom_node.workflow.delivery import Courier
from inference.reconstruction import Reconstruction
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import keep_object
from storage.outbox import add_delivery
from storage.queue import claim, finish
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.drawn_sources import a_thousand_frames, reconstructed
from tests.factory import Box, reconstruction, xa
from tests.peers import Peer, free_port, orthanc, storescp, wait_until
from tests.stored_jobs import deliveries, job_of, queue_job, received, wait_for

QUICK = DeliverySettings(first_wait_seconds=0.05, longest_wait_seconds=0.2, timeout_seconds=30, poll_seconds=0.02)


@pytest.fixture
def here(sqlite_url, tmp_path) -> Iterator[tuple[Database, ObjectStore]]:
    database = Database(sqlite_url)
    database.migrate()
    yield database, ObjectStore(tmp_path / "store")
    database.close()


def result(**source) -> Dataset:
    image = xa(rows=96, columns=128, **source)
    made = secondary_captures(image, reconstruction(image), route="all", mark=Mark(), created=datetime.now(UTC))[0]
    file = BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return dcmread(BytesIO(file.getvalue()))


def due(here: tuple[Database, ObjectStore], *results: Dataset) -> int:
    """A job with these results, due at the destination."""
    database, store = here
    job = queue_job(database, store, xa())
    with database.transaction() as tx:
        taken = claim(tx, owner="worker", lease_seconds=60)
        assert taken is not None
        finished = finish(tx, taken[1], JobState.RECONSTRUCTED)
        for each in results:
            kept = keep_object(tx, received(store, each, ObjectKind.RESULT, job)).object
            add_delivery(tx, job=finished, object=kept, destination="pacs")
    return job


@contextmanager
def delivering(here: tuple[Database, ObjectStore], port: int, ae_title: str = "PACS", **keys) -> Iterator[None]:
    pacs = Destination(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, **keys)
    table = RouteTable(destinations=(pacs,))
    courier = Courier(*here, QUICK, table=lambda: table, calling_ae="FULLFIELD", name="courier")
    courier.start()
    try:
        yield
    finally:
        courier.stop()


def arrived(here, peer: Peer, *results: Dataset, **keys) -> list[Dataset]:
    """What a peer has got of results, in the order of their instance numbers."""
    job = due(here, *results)
    with delivering(here, peer.port, peer.ae_title, **keys):
        wait_for(here[0], job, JobState.DELIVERED)
    assert list(here[1].incoming.iterdir()) == []  # no copy is left
    return sorted((dcmread(path) for path in peer.files()), key=lambda each: each.InstanceNumber)


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("+xt", JPEGLSLossless),
        ("+xv", JPEG2000Lossless),
        ("+xr", RLELossless),
        ("+xa", JPEGLSLossless),
        ("+x=", ExplicitVRLittleEndian),
        ("+xi", ImplicitVRLittleEndian),
        ("+xb", ExplicitVRLittleEndian),  # it prefers big endian, which is not offered
    ],
)
def test_a_picture_goes_in_the_best_syntax_that_the_peer_takes_and_arrives_equal(here, tmp_path, option, syntax):
    sent = [result(frames=2, instance_number=1), result(bits_stored=8, frames=3, instance_number=2)]
    with storescp(tmp_path / "pacs", option) as peer:
        got = arrived(here, peer, *sent)
    assert [each.file_meta.TransferSyntaxUID for each in got] == [syntax, syntax]
    for before, after in zip(sent, got, strict=True):
        assert after.SOPInstanceUID == before.SOPInstanceUID
        assert np.array_equal(after.pixel_array, before.pixel_array)
        del before.PixelData, after.PixelData
        assert before == after


#: Sources that differ in what an encoder or a peer may stumble over; odd in their dimensions.
KINDS: dict[str, dict[str, Any]] = {
    "8 bits": {"bits_stored": 8},
    "8 bits in 16": {"bits_stored": 8, "bits_allocated": 16},
    "9 bits": {"bits_stored": 9},
    "12 bits": {},
    "16 bits": {"bits_stored": 16},
    "8 bits, signed": {"bits_stored": 8, "signed": True},
    "12 bits, signed": {"signed": True},
    "16 bits, signed": {"bits_stored": 16, "signed": True},
    "8 bits, inverse": {"bits_stored": 8, "photometric": "MONOCHROME1"},
    "14 bits, inverse": {"bits_stored": 14, "photometric": "MONOCHROME1"},
    "moving": {"aperture": [Box(3, 5, 30, 28), Box(9, 2, 40, 22)]},
    "one frame": {"frames": 0},
}


#: How many more of any kind, each with an aperture of any shape, and in any profile.
DRAWN = 12


def drawn() -> list[tuple[Dataset, Reconstruction, ObjectProfile]]:
    """Always the same, so that what fails can be tried again."""
    found = []

    @settings(max_examples=DRAWN, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(reconstructed(), st.sampled_from(get_args(ObjectProfile)))
    def take(case, profile):
        found.append((*case, profile))

    take()
    return found


@pytest.fixture(scope="module")
def measured_pictures() -> dict[str, tuple[Dataset, np.ndarray, np.ndarray]]:
    """By its UID each picture of each kind of source in each profile, of what was drawn, and of a thousand frames; and
    what of it was measured: mask and values."""
    fixed = [(xa(**({"rows": 33, "columns": 47, "frames": 2} | kind)), kind.get("aperture")) for kind in KINDS.values()]
    cases = [
        (image, reconstruction(image, aperture), profile)
        for image, aperture in fixed
        for profile in get_args(ObjectProfile)
    ]
    pictures = {}
    for image, made, profile in [*cases, *drawn(), (*a_thousand_frames(), "multiframe_sc")]:
        stored = image.pixel_array.reshape(made.aperture.shape)
        results = secondary_captures(image, made, route="all", mark=Mark(), profile=profile)
        for number, picture in enumerate(results):
            frames = slice(number, number + 1) if len(results) > 1 else slice(None)
            pictures[picture.SOPInstanceUID] = (picture, made.aperture[frames], stored[frames])
    return pictures


def check(got: list[Dataset], sent: dict[str, tuple[Dataset, np.ndarray, np.ndarray]]) -> None:
    assert {each.SOPInstanceUID for each in got} == set(sent)
    for each in got:
        picture, aperture, stored = sent[each.SOPInstanceUID]
        shown = each.pixel_array.reshape(aperture.shape)
        assert np.array_equal(shown[aperture], stored[aperture])
        assert (each.BitsStored, each.PixelRepresentation) == (picture.BitsStored, picture.PixelRepresentation)


@pytest.mark.parametrize("option", ["+x=", "+xi", "+xb", "+xd", "+xt", "+xv", "+xr", "+xa"])
def test_measured_pixels_are_equal_after_travelling_to_dcmtk(here, tmp_path, measured_pictures, option):
    with storescp(tmp_path / "pacs", option) as peer:
        got = arrived(here, peer, *(picture for picture, _, _ in measured_pictures.values()))
    check(got, measured_pictures)


@pytest.mark.parametrize(
    "taken",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless],
    ids=lambda syntax: syntax.name,
)
def test_measured_pixels_are_equal_after_travelling_to_orthanc(here, tmp_path, measured_pictures, taken):
    job = due(here, *(picture for picture, _, _ in measured_pictures.values()))
    # What cannot be had in a syntax without loss goes uncompressed.
    accepted = [taken] if taken in UNCOMPRESSED else [taken, ExplicitVRLittleEndian]
    with orthanc(tmp_path / "pacs", AcceptedTransferSyntaxes=accepted) as peer:
        with delivering(here, peer.port, peer.ae_title):
            wait_for(here[0], job, JobState.DELIVERED)
        got = [dcmread(BytesIO(peer.read(f"/instances/{instance}/file"))) for instance in peer.get("/instances")]
    assert taken in {each.file_meta.TransferSyntaxUID for each in got}
    check(got, measured_pictures)


def test_signed_pixels_go_in_a_syntax_that_keeps_the_sign(here, tmp_path):
    sent = result(signed=True)
    with storescp(tmp_path / "pacs", "+xa") as peer:
        [got] = arrived(here, peer, sent)
    assert got.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert np.array_equal(got.pixel_array, sent.pixel_array)


def test_a_destination_may_be_spared_compression(here, tmp_path):
    sent = result()
    with storescp(tmp_path / "pacs", "+xa") as peer:
        [got] = arrived(here, peer, sent, compressed=False)
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert got.PixelData == sent.PixelData


def test_orthanc_keeps_it_compressed_and_gives_the_same_pixels(here, tmp_path):
    sent = result(frames=3)
    job = due(here, sent)
    with orthanc(tmp_path / "pacs") as peer:
        with delivering(here, peer.port, peer.ae_title):
            wait_for(here[0], job, JobState.DELIVERED)
        (instance,) = peer.get("/instances")
        (tmp_path / "back.dcm").write_bytes(peer.read(f"/instances/{instance}/file"))
    got = dcmread(tmp_path / "back.dcm")
    assert got.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert np.array_equal(got.pixel_array, sent.pixel_array)


def test_what_is_tried_again_is_compressed_once(here, tmp_path, monkeypatch):
    rewritten = []
    rewrite = compression.rewrite
    monkeypatch.setattr(compression, "rewrite", lambda *told: rewritten.append(told[1]) or rewrite(*told))
    job = due(here, result())
    port = free_port()
    with delivering(here, port, "STORESCP"):
        with storescp(tmp_path / "down", "+xa", "--abort-during", port=port):
            wait_until(lambda: deliveries(here[0], job)[0].attempts >= 3, what="three attempts")
        with storescp(tmp_path / "pacs", "+xa", port=port) as peer:
            wait_for(here[0], job, JobState.DELIVERED)
            assert len(peer.files()) == 1
    assert rewritten == [JPEGLSLossless]
    assert job_of(here[0], job).state == JobState.DELIVERED


def test_a_copy_is_on_the_disk_before_it_has_its_name(here, tmp_path, monkeypatch):
    sync, replace, story = os.fsync, Path.replace, []

    def syncing(handle: int) -> None:
        story.append(("synced", os.fstat(handle).st_ino))
        sync(handle)

    def replacing(path: Path, target: Path) -> Path:
        if "-for-" in target.name:
            story.append(("named", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    with storescp(tmp_path / "pacs", "+xa") as peer:
        arrived(here, peer, result())
    [copy] = [inode for what, inode in story if what == "named"]
    assert ("synced", copy) in story[: story.index(("named", copy))]


def test_no_copy_takes_of_the_room_that_is_to_stay_free(here, tmp_path, monkeypatch):
    monkeypatch.setattr(here[1], "has_room", lambda: False)
    with storescp(tmp_path / "pacs", "+xa") as peer:
        [got] = arrived(here, peer, result())
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_without_room_for_a_copy_a_picture_goes_as_it_is(here, tmp_path, monkeypatch):
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compression, "rewrite", full)
    with storescp(Path(tmp_path / "pacs"), "+xa") as peer:
        [got] = arrived(here, peer, result())
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
