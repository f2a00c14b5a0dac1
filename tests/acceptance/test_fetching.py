"""A node whose route fetches: the study is whole here, and neither what was fetched nor what comes back is an input."""

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
