"""QIDO-RS: what is held is found by HTTP (PS3.18 10.6)."""

from collections.abc import Iterator

import pytest
from pydicom import Dataset

from tests.factory import xa
from tests.web import Web, part_10, serving


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    made = [
        xa(study_instance_uid="1.2.1", series_instance_uid="1.2.1.1", sop_instance_uid="1.2.1.1.1", PatientID="A"),
        xa(study_instance_uid="1.2.1", series_instance_uid="1.2.1.2", sop_instance_uid="1.2.1.2.1", PatientID="A"),
        xa(
            study_instance_uid="1.2.2",
            series_instance_uid="1.2.2.1",
            sop_instance_uid="1.2.2.1.1",
            PatientID="B",
            patient_name="Ärmel^Übel",
        ),
    ]
    with serving(tmp_path_factory.mktemp("web")) as served:
        assert served.post([part_10(dataset) for dataset in made]).status_code == 200
        yield served


def uids(found: list[dict], keyword: str) -> list[str]:
    return [str(Dataset.from_json(each)[keyword].value) for each in found]


def test_dicomweb_client_finds_studies_series_and_instances(web):
    client = web.client()
    assert uids(client.search_for_studies(), "StudyInstanceUID") == ["1.2.1", "1.2.2"]
    assert uids(client.search_for_studies(search_filters={"PatientID": "B"}), "StudyInstanceUID") == ["1.2.2"]
    assert uids(client.search_for_series("1.2.1"), "SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2"]
    assert uids(client.search_for_series(), "SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2", "1.2.2.1"]
    assert uids(client.search_for_instances("1.2.1", "1.2.1.2"), "SOPInstanceUID") == ["1.2.1.2.1"]
    assert len(client.search_for_instances("1.2.1")) == 2
    assert len(client.search_for_instances()) == 3


def test_a_study_is_told_with_its_counts_and_its_place(web):
    (told,) = web.get("/studies?StudyInstanceUID=1.2.1").json()
    study = Dataset.from_json(told)
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 2)
    assert study.ModalitiesInStudy == "XA"
    assert (study.RetrieveURL, study.InstanceAvailability) == (f"{web.url}/studies/1.2.1", "ONLINE")
    (told,) = web.get("/studies/1.2.1/series/1.2.1.2/instances").json()
    assert Dataset.from_json(told).RetrieveURL == f"{web.url}/studies/1.2.1/series/1.2.1.2/instances/1.2.1.2.1"


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("00100020=A", ["1.2.1"]),
        ("StudyInstanceUID=1.2.2,1.2.1", ["1.2.1", "1.2.2"]),
        ("PatientName=%C3%84rm*", ["1.2.2"]),
        ("PatientID=A&PatientID=", ["1.2.1", "1.2.2"]),
        ("limit=1", ["1.2.1"]),
        ("limit=1&offset=1", ["1.2.2"]),
    ],
)
def test_studies_are_found_by_attributes_and_page_by_page(web, query, studies):
    assert uids(web.get(f"/studies?{query}").json(), "StudyInstanceUID") == studies


def test_further_attributes_are_told_where_they_are_asked_for(web):
    tags = [
        set(web.get(f"/studies?{query}").json()[0]) for query in ("", "includefield=PatientAge", "includefield=all")
    ]
    assert "00101010" not in tags[0] and "00101010" in tags[1] and tags[1] < tags[2]


def test_nothing_found_is_no_content(web):
    response = web.get("/studies?PatientID=Nobody")
    assert (response.status_code, response.content) == (204, b"")


def test_what_is_not_done_as_asked_is_said_in_warnings(web):
    assert "fuzzymatching" in web.get("/studies?fuzzymatching=true").headers["Warning"]
    assert "There are 1 additional results" in web.get("/studies?limit=1").headers["Warning"]
    assert "SliceThickness" in web.get("/studies?SliceThickness=1").headers["Warning"]
    assert "Warning" not in web.get("/studies").headers


@pytest.mark.parametrize("query", ["Nonsense=1", "limit=many", "StudyDate=yesterday", "offset=-1"])
def test_what_cannot_be_asked_is_refused(web, query):
    assert web.get(f"/studies?{query}").status_code == 400


def test_an_answer_that_is_wanted_in_another_form_is_not_acceptable(web):
    assert web.get("/studies", "text/html").status_code == 406


def test_who_asked_what_is_in_the_audit_trail(web):
    web.get("/studies?PatientID=A")
    row = web.node.rows("queried")[-1]
    assert (row.actor, row.peer_ae, row.peer_address) == ("dicomweb", "DICOMWEB", "127.0.0.1")
    assert (row.details["keys"], row.details["matches"]) == ({"PatientID": "A"}, 1)
