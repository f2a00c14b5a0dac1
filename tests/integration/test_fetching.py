"""Other series of a study, fetched where a route asks for it: they arrive once, and no job takes them in."""

import threading

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import evt

from config.errors import StorageFull
from config.mark import Mark
from config.routes import RouteTable
from dicom_node.workflow.reconstruction import objects_of
from storage.fetches import claim_fetch
from storage.objects import keep_object
from storage.states import FetchState, ObjectKind
from tests.factory import reconstruction, write, xa
from tests.peers import dcmqrscp, findscu, free_port, orthanc, qrscp, storescu, wait_until
from tests.stored_jobs import received
from tests.wards import TITLE, answer, answers, series, table, uid, ward, ward_and_archive, ward_and_pacs

# From a PACS


def test_the_other_series_arrive_once_and_no_job_takes_them_in(tmp_path):
    with ward_and_pacs(tmp_path) as (here, pacs):
        sent, other, run, ultrasound = here.cine(), here.cine(), here.cine("RF"), here.cine("US")
        elsewhere = write(xa(frames=2, rows=16, columns=16), tmp_path / "elsewhere.dcm")
        assert storescu(pacs.port, sent, other, run, ultrasound, elsewhere, called=TITLE).accepted

        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert sorted(here.kept(ObjectKind.FETCHED)) == sorted([uid(other), uid(run)])
        assert here.jobs() == [[uid(sent)]]
        rows = here.node.rows("object_fetched")
        assert {(row.sop_instance_uid, row.peer_ae, row.details["archive"]) for row in rows} == {
            (uid(other), TITLE, "pacs"),
            (uid(run), TITLE, "pacs"),
        }
        assert {row.job_id for row in rows} == {here.fetches()[0].job_id}
        (asked,), (done,) = here.node.rows("fetch_asked"), here.node.rows("fetched")
        assert (asked.details["found"], asked.details["series"]) == (4, 2)
        assert (done.details["objects"], done.outcome) == (2, "success")

        # The study is whole for whoever looks at it here.
        told = findscu(here.node.port, QueryRetrieveLevel="SERIES", StudyInstanceUID=here.study, SeriesInstanceUID="")
        assert all(series(path) in told.output for path in (sent, other, run))
        assert series(ultrasound) not in told.output

        # A second job of the study finds nothing more to fetch.
        here.sends(here.cine())
        wait_until(lambda: len(here.node.rows("fetched")) == 2, what="the second fetch")
        assert here.node.rows("fetched")[1].details["series"] == 0
        assert len(here.node.rows("object_fetched")) == 2
        assert not here.node.rows("object_repeated", "object_kept_aside")


def test_a_result_is_not_fetched_back_and_that_of_another_node_is_no_input(tmp_path):
    with ward_and_pacs(tmp_path) as (here, pacs):
        sent = here.cine()
        source = dcmread(sent)
        own = objects_of(source, reconstruction(source), route="all", mark=Mark()).all()[0]
        others = objects_of(source, reconstruction(source), route="other", mark=Mark()).all()[0]
        with here.node.database.transaction() as tx:
            keep_object(tx, received(here.node.store, own, ObjectKind.RESULT))
        files = [write(result, tmp_path / f"{result.SOPInstanceUID}.dcm") for result in (own, others)]
        assert storescu(pacs.port, *files, called=TITLE).accepted
        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [others.SOPInstanceUID]
        assert here.kept(ObjectKind.ASIDE) == []
        # Not even when it is sent by itself.
        here.sends(files[1])
        assert here.node.rows("generated_recognised")[0].sop_instance_uid == others.SOPInstanceUID
        assert here.jobs() == [[uid(sent)]]


def test_what_was_fetched_is_an_input_when_the_modality_sends_it(tmp_path):
    with ward_and_pacs(tmp_path) as (here, pacs):
        sent, later = here.cine(), here.cine()
        assert storescu(pacs.port, later, called=TITLE).accepted
        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(later)]
        here.sends(later)
        assert here.jobs() == [[uid(sent)], [uid(later)]]
        assert here.kept(ObjectKind.FETCHED) == []
        assert {row.calling_ae for row in here.node.objects() if row.kind == ObjectKind.ORIGINAL} == {"CARM"}


def test_the_modalities_are_those_of_the_route(tmp_path):
    with ward_and_pacs(tmp_path) as (here, pacs):
        here.node.table = table(pacs.port, TITLE, modality=("RF",))
        sent, other, run = here.cine("RF"), here.cine(), here.cine("RF")
        assert storescu(pacs.port, other, run, called=TITLE).accepted
        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(run)]


@pytest.mark.parametrize("program", ["dcmtk", "pynetdicom"])
def test_an_archive_that_counts_nothing_sends_too_and_what_comes_again_is_kept_once(tmp_path, program):
    with ward_and_pacs(tmp_path, program) as (here, pacs):
        sent, other = here.cine(), here.cine()
        assert storescu(pacs.port, sent, other, called=pacs.ae_title).accepted
        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]
        # It does not say how many objects it has, so that it is asked for them again.
        here.sends(here.cine())
        wait_until(lambda: len(here.node.rows("fetched")) == 2, what="the second fetch")
        assert [row.sop_instance_uid for row in here.node.rows("object_repeated")] == [uid(other)]
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]
        assert len(here.jobs()) == 2


def test_orthanc_that_does_not_know_the_node_is_asked_until_it_does(tmp_path):
    with (
        orthanc(tmp_path / "pacs", ae_title=TITLE, DicomAlwaysAllowFind=True, DicomAlwaysAllowMove=True) as pacs,
        ward(tmp_path, pacs.port) as here,
    ):
        other = here.cine()
        assert storescu(pacs.port, other, called=TITLE).accepted
        here.sends(here.cine())
        row = wait_until(lambda: here.node.rows("fetch_postponed"), what="a try in vain")[0]
        assert row.details["reason"].endswith("with status 0xC000; it may not know where this node is.")
        pacs.put("/modalities/node", ["FULLFIELD", "127.0.0.1", here.node.port])
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]


@pytest.mark.parametrize("archive", [dcmqrscp, qrscp], ids=["dcmtk", "pynetdicom"])
def test_an_archive_that_does_not_know_the_node_refuses_and_it_is_said_what_to_mend(tmp_path, archive):
    with archive(tmp_path / "pacs") as pacs, ward(tmp_path, pacs.port, title=pacs.ae_title) as here:
        assert storescu(pacs.port, here.cine(), called=pacs.ae_title).accepted
        here.sends(here.cine())
        assert here.fetched().state == FetchState.REFUSED
        (row,) = here.node.rows("fetch_refused")
        assert (row.outcome, row.peer_ae) == ("refused", pacs.ae_title)
        assert "where this node is" in row.details["reason"]
        assert len(here.jobs()) == 1


def test_a_pacs_that_is_away_is_asked_until_it_is_back(tmp_path):
    port, node_port = free_port(), free_port()
    with ward(tmp_path, port, node_port) as here:
        sent, other = here.cine(), here.cine()
        here.sends(sent)
        wait_until(lambda: len(here.node.rows("fetch_postponed")) >= 2, what="two tries")
        # The job is there meanwhile.
        assert here.jobs() == [[uid(sent)]]
        modalities = {"node": ["FULLFIELD", "127.0.0.1", node_port]}
        with orthanc(tmp_path / "pacs", ae_title=TITLE, port=port, DicomModalities=modalities) as pacs:
            assert storescu(pacs.port, other, called=TITLE).accepted
            # It may have been asked between its start and the object.
            here.sends(here.cine())
            assert here.fetched().state == FetchState.FETCHED
            assert here.kept(ObjectKind.FETCHED) == [uid(other)]


@pytest.mark.parametrize("program", ["Orthanc", "dcmtk", "pynetdicom"])
@pytest.mark.parametrize("refused", [1, 2], ids=["one of two", "both"])
def test_what_a_pacs_could_not_send_at_first_is_asked_for_again(tmp_path, program, refused):
    with ward_and_pacs(tmp_path, program) as (here, pacs):
        others = [here.cine(), here.cine()]
        assert storescu(pacs.port, *others, called=pacs.ae_title).accepted
        keep, refusals = here.node.intake._keep, []

        def full_at_first(arrival, header):
            if arrival.calling_ae == pacs.ae_title and len(refusals) < refused:
                refusals.append(arrival)
                raise StorageFull("There is no room for it.")
            return keep(arrival, header)

        here.node.intake._keep = full_at_first
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert sorted(here.kept(ObjectKind.FETCHED)) == sorted(map(uid, others))
        assert here.node.rows("fetch_postponed")
        assert (here.node.rows("fetched")[0].outcome, len(here.node.rows("fetched"))) == ("success", 1)


def test_what_a_pacs_cannot_send_at_all_is_told_in_the_end(tmp_path):
    with ward_and_pacs(tmp_path, "pynetdicom") as (here, pacs):
        never, sent = here.cine(), here.cine()
        assert storescu(pacs.port, never, sent, called=pacs.ae_title).accepted
        keep = here.node.intake._keep

        def full_for_one(arrival, header):
            if arrival.calling_ae == pacs.ae_title and arrival.sop_instance_uid == uid(never):
                raise StorageFull("There is no room for it.")
            return keep(arrival, header)

        here.node.intake._keep = full_for_one
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(sent)]
        assert len(here.node.rows("fetch_postponed")) == 9
        (told,) = here.node.rows("fetched")
        assert (told.outcome, told.details["objects"], told.details["failed"]) == ("failed", 1, 1)


def test_a_series_that_a_pacs_cannot_send_keeps_no_other_away(tmp_path):
    with ward_and_pacs(tmp_path) as (here, pacs):
        cines = [here.cine() for _ in range(3)]
        assert storescu(pacs.port, *cines, called=TITLE).accepted
        asked_first = pacs.get(f"/series/{pacs.get('/series')[0]}")["MainDicomTags"]["SeriesInstanceUID"]
        [never] = [path for path in cines if series(path) == asked_first]
        keep, room = here.node.intake._keep, threading.Event()

        def full_for_one(arrival, header):
            if arrival.calling_ae == TITLE and arrival.sop_instance_uid == uid(never) and not room.is_set():
                raise StorageFull("There is no room for it.")
            return keep(arrival, header)

        here.node.intake._keep = full_for_one
        here.sends(here.cine())
        wait_until(lambda: len(here.node.rows("fetch_postponed")) > 10, what="more tries than of what comes in part")
        assert sorted(here.kept(ObjectKind.FETCHED)) == sorted(uid(path) for path in cines if path != never)
        room.set()
        assert here.fetched().state == FetchState.FETCHED
        assert len(here.kept(ObjectKind.FETCHED)) == 3


def test_a_pacs_that_stays_away_is_given_up(tmp_path):
    with ward(tmp_path, free_port(), give_up_after_hours=0.3 / 3600) as here:
        here.sends(here.cine())
        assert here.fetched().state == FetchState.ABANDONED
        assert here.node.rows("fetch_abandoned")[0].outcome == "failed"


def test_an_archive_that_left_the_routes_file_is_asked_no_more(tmp_path):
    with ward(tmp_path, free_port()) as here:
        here.sends(here.cine())
        here.node.table = RouteTable()
        assert here.fetched().state == FetchState.REFUSED
        assert here.fetched().reason == "destination 'pacs' is no longer in the routes file"


# From one that behaves as no good PACS does


def test_an_archive_that_does_not_tell_for_whom_it_sends_is_believed_while_it_is_asked(tmp_path):
    with ward_and_archive(tmp_path) as (here, archive):
        other = here.cine()
        archive.finds, archive.sends, archive.tells_mover = answers(other), [other], False
        sent = here.cine()
        here.sends(sent)
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]
        assert here.jobs() == [[uid(sent)]]


def test_what_was_not_asked_for_is_kept_and_that_is_told(tmp_path):
    with ward_and_archive(tmp_path) as (here, archive):
        asked, of_study, of_other = here.cine(), here.cine(), write(xa(rows=16, columns=16), tmp_path / "other.dcm")
        archive.finds, archive.sends = answers(asked), [of_study, of_other]
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert [move.SeriesInstanceUID for move in archive.moves] == [dcmread(asked).SeriesInstanceUID]
        assert sorted(here.kept(ObjectKind.FETCHED)) == sorted([uid(of_study), uid(of_other)])
        reasons = {row.details["reason"] for row in here.node.rows("object_fetched")}
        assert reasons == {"it is of another series than was asked for"}
        assert len(here.jobs()) == 1


def test_who_sends_of_its_own_accord_is_not_taken_for_an_archive_at_it(tmp_path):
    with ward_and_archive(tmp_path) as (here, archive):
        both = here.cine()

        # While the archive is asked for a series, the modality sends it, too.
        archive.finds, archive.before_sending = answers(both), lambda: here.sends(both)
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == []
        assert here.jobs()[-1] == [uid(both)]


def test_answers_of_other_studies_and_such_as_are_none_are_passed_over(tmp_path):
    with ward_and_archive(tmp_path) as (here, archive):
        strange = Dataset()
        strange.Modality = "XA"
        elsewhere = write(xa(rows=16, columns=16), tmp_path / "other.dcm")
        archive.finds = lambda _: iter([(0xFF00, strange), answer(elsewhere)])
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert archive.moves == []


def test_no_more_is_asked_for_than_the_bounds_allow(tmp_path, monkeypatch):
    monkeypatch.setattr("dicom_node.workflow.fetching._MOST_SERIES", 2)
    with ward_and_archive(tmp_path) as (here, archive):
        archive.finds = answers(*(here.cine() for _ in range(5)))
        here.sends(here.cine())
        assert here.fetched().state == FetchState.FETCHED
        assert len(archive.moves) == 2
        (row,) = here.node.rows("fetch_asked")
        assert (row.details["found"], row.details["series"], row.details["left_out"]) == (5, 2, 3)


@pytest.mark.parametrize(
    ("status", "state"), [(0xC001, FetchState.REFUSED), (0xA900, FetchState.REFUSED), (0xA700, FetchState.WAITING)]
)
def test_a_status_that_says_no_is_final_and_one_that_says_later_is_not(tmp_path, status, state):
    with ward_and_archive(tmp_path) as (here, archive):
        archive.finds = lambda _: iter([(status, None)])
        here.sends(here.cine())
        action = "fetch_refused" if state == FetchState.REFUSED else "fetch_postponed"
        row = wait_until(lambda: here.node.rows(action), what="the refusal")[0]
        assert f"0x{status:04X}" in row.details["reason"]
        if state == FetchState.WAITING:
            archive.finds = answers()
            assert here.fetched().state == FetchState.FETCHED


class Falters:
    """What an archive does instead of answering a request of this kind: nothing for ever, or an abort."""

    def __init__(self, request: str, how: str) -> None:
        self._request, self._how = request, how
        self.mended = threading.Event()

    def __call__(self, event: evt.Event) -> None:
        if self.mended.is_set() or type(event.request).__name__ != self._request:
            return
        if self._how == "abort":
            event.assoc.abort()
        else:
            self.mended.wait(60)


@pytest.mark.parametrize("how", ["silence", "abort"])
@pytest.mark.parametrize("request_", ["C_FIND", "C_MOVE"])
def test_an_archive_that_falters_at_a_request_is_asked_again_until_it_answers(tmp_path, monkeypatch, request_, how):
    monkeypatch.setattr("dicom_node.network.fetch_scu._PATIENCE_SECONDS", 0.5)
    with ward_and_archive(tmp_path, timeout_seconds=0.5 if how == "silence" else 30) as (here, archive):
        other = here.cine()
        archive.finds, archive.sends = answers(other), [other]
        archive.before_answering = falters = Falters(request_, how)
        try:
            here.sends(here.cine())
            row = wait_until(lambda: here.node.rows("fetch_postponed"), what="a fetch that is postponed")[0]
            assert row.details["reason"].endswith("ended the association or did not answer in time.")
        finally:
            falters.mended.set()
        here.fetcher.stop(2)
        archive.before_answering = lambda _: None
        here.fetcher = here.another_fetcher()
        here.fetcher.start()
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]


def test_a_fetch_that_a_dead_node_had_begun_is_taken_up(tmp_path):
    with ward_and_archive(tmp_path) as (here, archive):
        here.fetcher.stop(2)
        other = here.cine()
        archive.finds, archive.sends = answers(other), [other]
        here.sends(here.cine())
        with here.node.database.transaction() as tx:
            assert claim_fetch(tx, "pacs", owner="node", lease_seconds=600)
        here.fetcher = here.another_fetcher()
        here.fetcher.start()
        assert here.fetched().state == FetchState.FETCHED
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]
