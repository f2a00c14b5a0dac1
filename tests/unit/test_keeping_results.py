"""A result is written into the store piece by piece, and a disk that is full on the way is told as such."""

import pytest
from pydicom import dcmread

from config.errors import StorageFull
from config.mark import Mark
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.workflow.outcome import _keep
from storage.files import ObjectStore
from tests.factory import reconstruction, xa


def result(**options):
    source = xa(**options)
    return secondary_captures(source, reconstruction(source), route="r", mark=Mark())[0]


def test_what_is_kept_of_a_result_is_the_result(tmp_path):
    store, made = ObjectStore(tmp_path), result(bits_stored=8, frames=3, rows=63, columns=61)

    kept = _keep(store, made)

    again = dcmread(store.path(kept.digest))
    store.verify(kept.digest)
    assert again.PixelData == made.PixelData.read()
    assert len(again.PixelData) == 3 * 63 * 61 + 1
    assert "PixelData" not in kept.header and kept.header.SOPInstanceUID == made.SOPInstanceUID


def test_a_disk_that_is_full_before_a_result_is_whole_is_told_and_left_as_it_was(small_disk):
    store = ObjectStore(small_disk)
    free = store.free_bytes()

    with pytest.raises(StorageFull):
        _keep(store, result(frames=40, rows=512, columns=512))

    assert list(store.incoming.iterdir()) == []
    assert store.free_bytes() == free


@pytest.mark.filterwarnings("ignore")
def test_a_value_that_cannot_be_written_is_no_fault_of_the_disk(tmp_path):
    made = result(frames=1)
    made.add_new("PixelPaddingValue", "US", "no number")

    with pytest.raises(ValueError, match="cannot be written"):
        _keep(ObjectStore(tmp_path), made)
