"""What modalities send that is bad or unusual: each either gives a valid result, or ends declined with a sentence.

Decoding by itself is in tests/unit/test_pixels.py; this is the whole way from an object to its end.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedXAImageStorage,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from config.errors import Declined
from config.mark import Mark
from config.settings import WorkerSettings
from dicom_node.audit import Action
from dicom_node.sop_classes import BESIDE
from dicom_node.workflow.reconstruction import read_image, results_of
from dicom_node.workflow.worker import Worker
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import objects_of_job
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.dciodvfy import errors_in
from tests.enhanced import enhanced_xa, enhanced_xrf
from tests.factory import COMPRESSED, LOSSY, Box, measured, write, xa
from tests.stored_jobs import deliveries, job_of, queue_job, queue_received, received, story

# What is reconstructed

ACCEPTED = {
    "8 bits": {"bits_stored": 8},
    "10 bits": {"bits_stored": 10},
    "12 bits": {"bits_stored": 12},
    "14 bits": {"bits_stored": 14},
    "16 bits": {"bits_stored": 16},
    "MONOCHROME1": {"photometric": "MONOCHROME1"},
    "8 bits MONOCHROME1": {"photometric": "MONOCHROME1", "bits_stored": 8},
    "signed": {"signed": True},
    "a single frame": {"frames": 0},
    "1024 x 1024": {"frames": 1, "rows": 1024, "columns": 1024},
    "1000 x 800": {"frames": 1, "rows": 800, "columns": 1000},
    "an aperture of 1 %": {"rows": 100, "columns": 100, "aperture": Box(45, 45, 55, 55)},
    "an aperture of 90 %": {"rows": 100, "columns": 100, "aperture": Box(5, 0, 100, 95)},
    "a missing PatientID": {"missing": ["PatientID"]},
    "a name in ISO_IR 100": {"patient_name": "Müller^Jörg", "charset": "ISO_IR 100"},
    "a name in ISO 2022 IR 87": {"patient_name": "Yamada^Tarou=山田^太郎", "charset": ["", "ISO 2022 IR 87"]},
    "RLE": {"syntax": COMPRESSED[0]},
    "JPEG lossless": {"syntax": COMPRESSED[1]},
    "JPEG-LS": {"syntax": COMPRESSED[2]},
    "JPEG 2000": {"syntax": COMPRESSED[3]},
    "high-throughput JPEG 2000": {"syntax": COMPRESSED[4]},
    "high-throughput JPEG 2000, RPCL": {"syntax": COMPRESSED[5]},
    "enhanced XA": {"maker": enhanced_xa},
    "enhanced XRF": {"maker": enhanced_xrf},
    "enhanced XA, JPEG 2000": {"maker": enhanced_xa, "syntax": COMPRESSED[3]},
}


@pytest.mark.parametrize("kind", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_unusual_gives_a_valid_result_with_every_measured_pixel(kind, reconstructor, tmp_path):
    kind = {"frames": 2} | kind
    syntax, make = kind.pop("syntax", None), kind.pop("maker", xa)
    drawn = make(**kind)
    source = dcmread(write(drawn, tmp_path / "source.dcm", syntax))

    results = results_of(source, reconstructor, route="all", mark=Mark(), mode="mean")

    check_results(results, drawn, measured(aperture_of(drawn), *frames_of(drawn).shape), tmp_path)


@pytest.mark.parametrize(
    "syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, *LOSSY], ids=lambda uid: uid.keyword
)
def test_what_came_deflated_big_endian_or_lossy_keeps_every_pixel_as_decoded(syntax, reconstructor, tmp_path):
    drawn = xa(frames=2, bits_stored=8 if syntax == JPEGBaseline8Bit else 12)
    path = write(drawn, tmp_path / "source.dcm", syntax)

    results = results_of(read_image(path), reconstructor, route="all", mark=Mark(), mode="mean")

    check_results(results, dcmread(path), measured(aperture_of(drawn), *frames_of(drawn).shape), tmp_path)
    assert results[0].LossyImageCompression == ("01" if syntax in LOSSY else "00")


@pytest.mark.parametrize("make", [enhanced_xa, enhanced_xrf])
def test_an_enhanced_image_goes_through_a_worker_to_its_results(make, node, work, tmp_path):
    database, store = node
    drawn = make(frames=2)
    job = queue_job(database, store, drawn)

    work()

    assert (job_of(database, job).state, job_of(database, job).reason) == (JobState.RECONSTRUCTED, None)
    assert len(deliveries(database, job)) == 5
    with database.reading() as tx:
        results = [dcmread(store.path(each.digest)) for each in objects_of_job(tx, job, ObjectKind.RESULT)]
    check_results(results, drawn, measured(aperture_of(drawn), *frames_of(drawn).shape), tmp_path)


def test_an_aperture_that_moves_between_frames_is_followed(reconstructor, tmp_path):
    boxes = [Box(8 + 6 * at, 10, 40 + 6 * at, 50) for at in range(4)]
    source = xa(aperture=boxes, sop_class=EnhancedXAImageStorage)
    source.PerFrameFunctionalGroupsSequence = [in_group(box) for box in boxes]

    results = results_of(source, reconstructor, route="all", mark=Mark(), mode="mean")

    check_results(results, source, measured(boxes, 4, 64, 64), tmp_path)


def check_results(results: list[Dataset], source: Dataset, aperture: np.ndarray, folder: Path) -> None:
    """They are valid, and hold the source's stored values where they were measured."""
    read = [dcmread(write(result, folder / f"{number}.dcm")) for number, result in enumerate(results)]
    for number in range(len(results)):
        assert errors_in(folder / f"{number}.dcm") == []
    pictures = [result for result in read if result.SOPClassUID not in BESIDE]
    (segmentation,) = (result for result in read if result.Modality == "SEG")
    assert np.array_equal(frames_of(segmentation), ~aperture)
    found = np.concatenate([frames_of(picture) for picture in pictures])
    original = frames_of(source)
    assert found.shape == original.shape
    assert np.array_equal(found[aperture], original[aperture])
    assert not np.array_equal(found[~aperture], original[~aperture])
    assert {result.PatientName for result in read} == {source.PatientName}


def frames_of(dataset: Dataset) -> np.ndarray:
    """(n, h, w) stored values."""
    return dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)


def aperture_of(dataset: Dataset) -> Box:
    """The box that the collimator's attributes tell, of an enhanced image those that all frames share."""
    groups = dataset.get("SharedFunctionalGroupsSequence")
    told = groups[0].CollimatorShapeSequence[0] if groups else dataset
    return Box(
        told.CollimatorLeftVerticalEdge - 1,
        told.CollimatorUpperHorizontalEdge - 1,
        told.CollimatorRightVerticalEdge,
        told.CollimatorLowerHorizontalEdge,
    )


def in_group(box: Box) -> Dataset:
    """A frame's functional group that tells its collimator (C.8.19.6.7)."""
    shape, group = Dataset(), Dataset()
    shape.CollimatorShape = "RECTANGULAR"
    shape.CollimatorLeftVerticalEdge, shape.CollimatorRightVerticalEdge = box.left + 1, box.right
    shape.CollimatorUpperHorizontalEdge, shape.CollimatorLowerHorizontalEdge = box.top + 1, box.bottom
    group.CollimatorShapeSequence = [shape]
    return group


# What is declined


def truncated(folder: Path) -> Dataset:  # noqa: ARG001
    dataset = xa(frames=3)
    dataset.PixelData = dataset.PixelData[:-2000]
    return dataset


def with_a_frame_cut_off(syntax: str) -> Callable[[Path], Dataset]:
    def make(folder: Path) -> Dataset:
        dataset = dcmread(write(xa(frames=2), folder / "whole.dcm", syntax))
        first, second = (get_frame(dataset.PixelData, index, number_of_frames=2) for index in range(2))
        dataset.PixelData = encapsulate([first, second[: len(second) // 2]])
        return dataset

    return make


def ends_within(frame: str) -> str:
    return (
        f"PixelData end within frame {frame}, by Rows, Columns, BitsAllocated and NumberOfFrames (PS3.5 8.1.1): the "
        "object is truncated or its header is wrong; send it again."
    )


DECLINED = {
    "no pixel data": (
        lambda _: xa(missing=["PixelData"]),
        "The object has no PixelData (PS3.3 C.7.6.3); the sender must send the image itself.",
    ),
    "truncated pixel data": (
        truncated,
        ends_within("3 of 3"),
    ),
    "a header that claims 60,000 frames": (
        lambda _: xa(frames=3, NumberOfFrames=60_000),
        ends_within("4 of 60000"),
    ),
    "color": (
        lambda _: xa(photometric="RGB", bits_stored=8),
        "The image is in color by SamplesPerPixel (PS3.3 C.7.6.3.1.1); only grey images are reconstructed.",
    ),
    "the open field": (
        lambda _: xa(aperture=None),
        "No aperture was found in the pixels.",
    ),
    "an aperture of nearly nothing": (
        lambda _: xa(aperture=Box(30, 30, 33, 33)),
        "The aperture leaves 0.2% of a frame open; a reconstruction needs 0.5%.",
    ),
    "corrupt JPEG 2000": (
        with_a_frame_cut_off(JPEG2000Lossless),
        "Frame 2 of 2 cannot be decoded from JPEG 2000 Image Compression (Lossless Only): PixelData are "
        "corrupt (PS3.5 8.2); send the object again.",
    ),
    "corrupt JPEG-LS": (
        with_a_frame_cut_off(JPEGLSLossless),
        "Frame 2 of 2 cannot be decoded from JPEG-LS Lossless Image Compression: PixelData are corrupt "
        "(PS3.5 8.2); send the object again.",
    ),
    "rows that are no number": (
        lambda _: xa(missing=["Rows"]),
        "Rows is missing or not a whole number (PS3.3 C.7.6.3); the modality's vendor mends its header.",
    ),
    "a picture that is itself generated": (
        lambda _: xa(SyntheticData="YES"),
        "The picture is itself generated (SyntheticData is YES).",
    ),
}


@pytest.fixture
def node(sqlite_url, tmp_path):
    """A migrated database and an object store."""
    database = Database(sqlite_url)
    database.migrate()
    yield database, ObjectStore(tmp_path / "store")
    database.close()


@pytest.fixture
def work(node, reconstructor):
    """Lets a worker do all that there is to do."""
    database, store = node
    worker = Worker(database, store, WorkerSettings(), name="one", load=lambda _: reconstructor)
    return lambda: worker.run(threading.Event(), once=True)


@pytest.mark.parametrize(("make", "sentence"), DECLINED.values(), ids=DECLINED)
def test_what_cannot_be_reconstructed_is_declined_and_the_next_goes_through(make, sentence, node, work, tmp_path):
    database, store = node
    bad = queue_job(database, store, make(tmp_path))
    good = queue_job(database, store, xa(frames=1))

    work()

    assert (job_of(database, bad).state, job_of(database, bad).reason) == (JobState.DECLINED, sentence)
    assert job_of(database, bad).attempts == 1
    assert deliveries(database, bad) == []
    told = [(row.action, row.details["reason"]) for row in story(database, bad) if "reason" in row.details]
    assert told == [(Action.JOB_DECLINED, sentence)]
    assert job_of(database, good).state == JobState.RECONSTRUCTED
    assert len(deliveries(database, good)) == 5  # The picture, and what goes beside it.


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless], ids=["plain", "compressed"])
def test_an_object_that_is_cut_off_is_declined_and_the_next_goes_through(syntax, node, work):
    database, store = node
    dataset = xa(frames=2)
    whole = write(dataset, store.incoming / "whole.dcm", syntax)
    whole.write_bytes(whole.read_bytes()[:-1000])
    kept = store.keep(whole)
    bad = queue_received(database, replace(received(store, dataset), digest=kept.digest, size=kept.size))
    good = queue_job(database, store, xa(frames=1))

    work()

    assert job_of(database, bad).state == JobState.DECLINED
    assert job_of(database, bad).reason in (
        ends_within("2 of 2"),
        "The object is cut off, so that it cannot be read as DICOM; send it again.",
    )
    assert job_of(database, good).state == JobState.RECONSTRUCTED


def test_of_a_series_the_good_images_are_reconstructed_and_the_others_told(node, work):
    database, store = node
    job = queue_job(database, store, xa(frames=1), xa(missing=["PixelData"]), xa(frames=1, bits_stored=8))

    work()

    assert job_of(database, job).state == JobState.RECONSTRUCTED
    assert job_of(database, job).reason == (
        "1 of 3 objects: The object has no PixelData (PS3.3 C.7.6.3); the sender must send the image itself."
    )
    assert len(deliveries(database, job)) == 10
    with database.transaction() as tx:
        results = [one for one in objects_of_job(tx, job, ObjectKind.RESULT) if one.modality == "SR"]
    told = []
    for report in results:
        with store.open(report.digest) as file:
            told.append(file.read())
    assert len(told) == 2
    assert all(b"The object has no PixelData (PS3.3 C.7.6.3)" in each for each in told)


@pytest.mark.filterwarnings("ignore")
def test_whatever_happened_to_a_header_it_ends_in_a_result_or_in_a_sentence(reconstructor, tmp_path):
    whole = write(xa(frames=1, rows=16, columns=20), tmp_path / "whole.dcm").read_bytes()
    header = whole.index(b"\xe0\x7f\x10\x00")
    draw = np.random.default_rng(0)
    results = []
    for _ in range(150):
        spoilt = bytearray(whole)
        for at in draw.integers(132, header, draw.integers(1, 4)):
            spoilt[at] = draw.choice([0, 1, 32, 45, 92, 255, draw.integers(256)])
        try:
            image = read_image(BytesIO(spoilt))
            results += results_of(image, reconstructor, route="all", mark=Mark(), mode="mean")
        except Declined as error:
            assert str(error)[0].isupper() and str(error).endswith(".")
    assert len(results) > 20
