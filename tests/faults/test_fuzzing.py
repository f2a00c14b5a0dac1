"""Whatever comes over the line, the node answers, aborts or rejects, keeps what it acknowledged, and goes on."""

from pathlib import Path
from random import Random

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from config.settings import load_settings
from storage.files import ObjectStore
from storage.objects import find_object
from tests.fuzzing.conversations import Conversation, conversation
from tests.fuzzing.outcomes import Outcome, outcome_of
from tests.fuzzing.run import fuzz, unreadable
from tests.nodes import NodeProcess


def test_no_nonsense_brings_the_node_down_or_is_left_without_an_answer(tmp_path: Path) -> None:
    report = fuzz(tmp_path, number=150, seed=7)
    assert not report.faults
    assert sum(report.outcomes.values()) == 150
    assert report.acknowledged


def test_what_is_not_changed_is_acknowledged_in_every_transfer_syntax_and_what_is_damaged_then_is_found(
    tmp_path: Path,
) -> None:
    node = NodeProcess(tmp_path, {}, worker={"processes": 0})
    node.routes.write_text("")
    whole = [each for each in map(conversation, map(Random, range(24))) if each.kind == "C-STORE"]
    with node.running():
        told = [outcome_of(each, node.port) for each in whole]
    assert set(told) == {(Outcome.ANSWERED, True)}
    database, store = node.database(), ObjectStore(load_settings(node.settings).storage.root)
    with database.reading() as tx:
        rows = [find_object(tx, each.sop_instance_uid) for each in whole]
    database.close()
    assert {row.transfer_syntax_uid for row in rows} == {
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    }
    uids = [each.sop_instance_uid for each in whole]
    assert unreadable(node, uids) == []
    with store.path(rows[0].digest).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    (fault,) = unreadable(node, uids)
    assert uids[0] in fault and "another digest" in fault


def test_an_even_presentation_context_id_is_answered_by_an_abort(tmp_path: Path) -> None:
    whole = conversation(Random(7))
    request = bytearray(whole.pdus[0])
    # Behind the header and the application context item: the id of the first context (PS3.8 table 9-13).
    at = request.index(b"\x20\x00", 74 + 4) + 4
    assert request[at] == 1
    request[at] = 2
    node = NodeProcess(tmp_path, {}, worker={"processes": 0})
    node.routes.write_text("")
    with node.running():
        outcome, _ = outcome_of(Conversation(kind=whole.kind, pdus=(bytes(request), *whole.pdus[1:])), node.port)

    assert outcome is Outcome.ABORTED
