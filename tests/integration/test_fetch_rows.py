"""What was asked of archives as the database knows it, on SQLite and on PostgreSQL."""

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select

from config.routes import Destination, Route, RouteTable
from dicom_node.workflow.series import object_kept
from storage.database import Database
from storage.fetches import add_fetch, claim_fetch, due_fetches, fetch_behind, note_asked, settle_fetch
from storage.leases import let_go
from storage.objects import ReceivedObject, keep_object
from storage.queue import list_jobs
from storage.schema import CataloguedObject, Fetch, StoredObject
from storage.states import FetchState, ObjectKind
from tests.factory import xa

STUDY = generate_uid()
TABLE = RouteTable(
    routes=(Route(name="all", destinations=("pacs",), fetch_priors="pacs"),),
    destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
)


def arrives(database: Database, uid: str, *, digest: str = "a", kind=ObjectKind.ORIGINAL, calling_ae="CARM") -> str:
    """Keep an object of a series of its own as the listener does; what became of it."""
    header = xa(frames=2, rows=16, columns=16, sop_instance_uid=uid, study_instance_uid=STUDY)
    one = ReceivedObject(
        sop_instance_uid=uid,
        sop_class_uid=header.SOPClassUID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=STUDY,
        series_instance_uid=f"{uid}.1",
        modality="XA",
        frames=2,
        digest=digest * 64,
        size=1000,
        kind=kind,
        calling_ae=calling_ae,
        called_ae="FULLFIELD",
        header=header,
    )
    with database.transaction() as tx:
        kept = keep_object(tx, one)
        if kept.outcome == "new":
            object_kept(tx, kept.object, header, table=TABLE, max_attempts=3)
    return kept.outcome


def jobs(database: Database) -> int:
    with database.reading() as tx:
        return len(list_jobs(tx))


def held(database: Database) -> list[tuple[str, str, str]]:
    with database.reading() as tx:
        return [(row.digest[0], row.kind, row.calling_ae) for row in tx.scalars(select(StoredObject))]


@pytest.mark.parametrize("digest", ["a", "b"])
def test_what_was_fetched_makes_room_for_what_is_sent(database, digest):
    uid = generate_uid()
    assert arrives(database, uid, kind=ObjectKind.FETCHED, calling_ae="PACS") == "new"
    assert jobs(database) == 0
    assert arrives(database, uid, digest=digest) == "new"
    assert jobs(database) == 1
    expected = [(digest, "original", "CARM")] + ([("a", "aside", "PACS")] if digest == "b" else [])
    assert sorted(held(database)) == sorted(expected)
    # It is found once.
    with database.reading() as tx:
        (row,) = tx.scalars(select(CataloguedObject))
        assert tx.get_one(StoredObject, row.object_id).kind == ObjectKind.ORIGINAL
    # And from now on it is an original: what is fetched anew is a repetition.
    assert arrives(database, uid, digest=digest, kind=ObjectKind.FETCHED, calling_ae="PACS") == "repeated"
    assert jobs(database) == 1


def test_what_was_sent_is_not_replaced_by_what_is_fetched(database):
    uid = generate_uid()
    arrives(database, uid)
    assert arrives(database, uid, digest="b", kind=ObjectKind.FETCHED, calling_ae="PACS") == "aside"
    assert sorted(held(database)) == [("a", "original", "CARM"), ("b", "aside", "PACS")]


def test_jobs_of_a_study_that_wait_for_the_same_fetch_share_it(database):
    arrives(database, generate_uid())
    arrives(database, generate_uid())
    with database.transaction() as tx:
        assert due_fetches(tx) == ["pacs"]
        fetch = claim_fetch(tx, "pacs", owner="node", lease_seconds=60)
        assert claim_fetch(tx, "pacs", owner="other", lease_seconds=60) is None
    assert fetch.modalities == ["XA", "RF"]
    # One that is under way may have looked already.
    with database.transaction() as tx:
        job = list_jobs(tx)[0]
        assert add_fetch(tx, job, archive="pacs", modalities=["XA"]) is not None


def test_what_a_dead_namesake_was_about_is_due_again(database):
    arrives(database, generate_uid())
    with database.transaction() as tx:
        claim_fetch(tx, "pacs", owner="node", lease_seconds=600)
        assert due_fetches(tx) == []
    with database.transaction() as tx:
        let_go(tx, Fetch, "node")
        assert due_fetches(tx) == ["pacs"]


@pytest.mark.parametrize(
    ("how", "is_asked_for"),
    [
        ({"mover": "FULLFIELD"}, True),
        ({"mover": "FULLFIELD", "series_instance_uid": "9"}, True),
        ({"mover": "FULLFIELD", "study_instance_uid": "9"}, True),
        ({"mover": "WORKSTATION"}, False),
        ({"mover": None}, True),
        ({"mover": None, "series_instance_uid": "9"}, False),
        ({"mover": None, "study_instance_uid": "9"}, True),
        ({"mover": None, "calling_ae": "CARM"}, False),
        ({"mover": "PACS"}, True),
        ({"mover": "PACS", "series_instance_uid": "9"}, False),
        ({"mover": "PACS", "calling_ae": "CARM"}, False),
    ],
)
def test_an_object_is_known_for_what_was_asked_for(database, how, is_asked_for):
    arrives(database, generate_uid())
    with database.transaction() as tx:
        fetch = claim_fetch(tx, "pacs", owner="node", lease_seconds=60)
        note_asked(tx, fetch.id, archive_ae="PACS", calling_ae="FULLFIELD", series=["1.2"])
        asked = {
            "study_instance_uid": STUDY,
            "series_instance_uid": "1.2",
            "sop_instance_uid": "1.2.3",
            "calling_ae": "PACS",
        } | how
        assert (fetch_behind(tx, **asked) is not None) is is_asked_for


def test_when_a_fetch_is_over_only_its_own_study_is_known_by_the_mover(database):
    arrives(database, generate_uid())
    with database.transaction() as tx:
        fetch = claim_fetch(tx, "pacs", owner="node", lease_seconds=60)
        note_asked(tx, fetch.id, archive_ae="PACS", calling_ae="FULLFIELD", series=["1.2"])
        settle_fetch(tx, fetch.id, FetchState.FETCHED)
        known = {"series_instance_uid": "1.2", "sop_instance_uid": "1.2.3", "calling_ae": "PACS"}
        assert fetch_behind(tx, study_instance_uid=STUDY, mover="FULLFIELD", **known) is not None
        assert fetch_behind(tx, study_instance_uid=STUDY, mover=None, **known) is None
        assert fetch_behind(tx, study_instance_uid="9", mover="FULLFIELD", **known) is None
