"""A node whose route fetches: the study is whole here, and neither what was fetched nor what comes back is an input."""

from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.hospital import PACS, RESULTS, hospital
from tests.nodes import LONG
from tests.peers import storescu, wait_until


def test_the_study_is_whole_at_the_node_and_what_the_pacs_sends_back_begins_no_job(tmp_path):
    with hospital(tmp_path, route={"fetch_priors": "pacs"}) as here:
        here.pacs.put("/modalities/node", ["FULLFIELD", "127.0.0.1", here.node.port])
        study = generate_uid()
        earlier, cine = here.cine(study_instance_uid=study), here.cine(study_instance_uid=study)
        assert storescu(here.pacs.port, earlier, called=PACS).accepted
        assert here.push(cine).accepted
        here.node.wait_until_settled(1)
        wait_until(lambda: here.node.told("fetched"), what="the end of the fetch", seconds=LONG)
        assert here.node.told("object_fetched") == 1

        (known,) = here.pacs.get("/studies")
        sent = here.pacs.ask("/modalities/node/store", {"Resources": [known], "Synchronous": True})
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (RESULTS + 1, 0)
        assert here.node.told("generated_recognised") == RESULTS
        # The cine that was fetched is now sent to the node, and so it is an input.
        assert len(here.node.wait_until_settled(2)) == 2
        assert here.node.told("job_queued") == 2


def test_an_original_that_is_damaged_on_the_disk_is_whole_again_by_itself(tmp_path):
    # What was read just now is due again at once.
    with hospital(tmp_path, route={"refetch": "pacs"}, storage={"scrub_days": 1e-5}) as here:
        here.pacs.put("/modalities/node", ["FULLFIELD", "127.0.0.1", here.node.port])
        cine = here.cine()
        assert storescu(here.pacs.port, cine, called=PACS).accepted
        assert here.push(cine).accepted
        here.node.wait_until_settled(1)
        (kept,) = (path for path in (here.node.folder / "var").rglob("objects/*/*/*") if is_of(path, cine))
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        wait_until(lambda: here.node.told("object_refetched"), what="the original", seconds=LONG)
        assert kept.read_bytes() == whole
        assert here.node.told("damage_found") == 1
        assert here.node.told("job_queued") == 1
        # It can be reconstructed as ever.
        assert here.goes_through()


def is_of(path: Path, cine: Path) -> bool:
    return bool(
        dcmread(path, stop_before_pixels=True).SOPInstanceUID == dcmread(cine, stop_before_pixels=True).SOPInstanceUID
    )
