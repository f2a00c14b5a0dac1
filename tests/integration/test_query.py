"""Peers ask what the node holds (C-FIND): dcmtk's findscu, Orthanc, and pynetdicom for what these two cannot say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from storage.objects import ReceivedObject, keep_object
from tests.factory import write, xa
from tests.listening import Node, listening
from tests.peers import findscu, orthanc, storescu

STUDY, OTHER = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that holds two studies of two patients: two series of one object each, and one object."""
    folder = tmp_path_factory.mktemp("node")
    small = {"frames": 2, "rows": 16, "columns": 16}
    objects = [
        xa(**small, study_instance_uid=STUDY, series_instance_uid=f"{STUDY}.1", sop_instance_uid=f"{STUDY}.1.1"),
        xa(
            **small,
            study_instance_uid=STUDY,
            series_instance_uid=f"{STUDY}.2",
            sop_instance_uid=f"{STUDY}.2.1",
            Modality="RF",
            SeriesNumber=3,
        ),
        xa(
            **small,
            study_instance_uid=OTHER,
            series_instance_uid=f"{OTHER}.1",
            sop_instance_uid=f"{OTHER}.1.1",
            charset="ISO_IR 100",
            patient_name="Erfundene^Jürgen",
            PatientID="INVENTED-2",
            StudyDate="20240203",
            AccessionNumber="A2",
        ),
    ]
    with listening(folder) as node:
        paths = [write(each, folder / f"{number}.dcm") for number, each in enumerate(objects)]
        assert storescu(node.port, *paths).accepted
        yield node


def find(
    node: Node,
    level: str,
    model: str = StudyRootQueryRetrieveInformationModelFind,
    agreed: bytes | None = None,
    cancel_after: int | None = None,
    **keys: Any,
) -> tuple[list[Dataset], list[int]]:
    """Ask with pynetdicom; the answers, and the statuses of all responses."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    negotiation = SOPClassExtendedNegotiation()
    negotiation.sop_class_uid, negotiation.service_class_application_information = model, agreed or b""
    ae = AE("ASKER")
    association = ae.associate(
        "127.0.0.1",
        node.port,
        [build_context(model)],
        ae_title="FULLFIELD",
        ext_neg=[negotiation] if agreed is not None else [],
    )
    assert association.is_established
    answers, statuses = [], []
    for status, answer in association.send_c_find(identifier, model, msg_id=7):
        statuses.append(status.Status)
        if answer is not None:
            answers.append(answer)
            if len(answers) == cancel_after:
                association.send_c_cancel(7, query_model=model)
    association.release()
    return answers, statuses


def uids(answers: list[Dataset], keyword: str = "StudyInstanceUID") -> list[str]:
    return [answer[keyword].value for answer in answers]


# dcmtk and Orthanc


def test_findscu_finds_studies_series_and_objects(node: Node) -> None:
    studies = findscu(node.port, QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientName="Invented*")
    assert studies.accepted
    assert re.findall(r"\(0020,000d\) UI \[([0-9.]+)", studies.output)[-1] == STUDY
    series = findscu(node.port, QueryRetrieveLevel="SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID="", Modality="")
    assert set(re.findall(r"\(0020,000e\) UI \[([0-9.]+)", series.output)) == {f"{STUDY}.1", f"{STUDY}.2"}
    objects = findscu(
        node.port,
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{STUDY}.2",
        SOPInstanceUID="",
        NumberOfFrames="",
    )
    assert f"{STUDY}.2.1" in objects.output
    assert re.search(r"\(0028,0008\) IS \[2", objects.output)


def test_orthanc_finds_a_study_by_its_patient(node: Node, tmp_path: Path) -> None:
    modality = {"AET": "FULLFIELD", "Host": "127.0.0.1", "Port": node.port}
    with orthanc(tmp_path / "orthanc", DicomModalities={"node": modality}) as asker:
        query = {"Level": "Study", "Query": {"PatientID": "INVENTED-2", "StudyDate": "20240101-20241231"}}
        found = asker.ask("/modalities/node/query", query)
        (answer,) = asker.get(f"{found['Path']}/answers")
        told = asker.get(f"{found['Path']}/answers/{answer}/content?simplify")
    assert told["StudyInstanceUID"] == OTHER
    assert told["PatientID"] == "INVENTED-2"
    assert told["RetrieveAETitle"] == "FULLFIELD"


# What is told


def test_a_study_is_told_with_what_is_counted_of_it(node: Node) -> None:
    (told,), statuses = find(
        node,
        "STUDY",
        StudyInstanceUID=STUDY,
        ModalitiesInStudy="",
        SOPClassesInStudy="",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
        PatientBirthDate="",
        ReferringPhysicianName="",
        InstanceAvailability="",
    )
    assert statuses == [0xFF00, 0x0000]
    assert told.ModalitiesInStudy == ["RF", "XA"]
    assert told.SOPClassesInStudy == dcmread(node.store.path(node.objects()[0].digest)).SOPClassUID
    assert (told.NumberOfStudyRelatedSeries, told.NumberOfStudyRelatedInstances) == (2, 2)
    assert told.PatientBirthDate == "19500101"
    assert not told.ReferringPhysicianName
    assert (told.QueryRetrieveLevel, told.RetrieveAETitle) == ("STUDY", "FULLFIELD")
    assert told.InstanceAvailability == "ONLINE"
    assert "SpecificCharacterSet" not in told


def test_a_study_is_found_by_a_modality_of_it(node: Node) -> None:
    answers, _ = find(node, "STUDY", StudyInstanceUID="", ModalitiesInStudy="R?")
    assert uids(answers) == [STUDY]
    answers, _ = find(node, "STUDY", StudyInstanceUID="", ModalitiesInStudy=["XA", "CT"])
    assert uids(answers) == [STUDY, OTHER]


def test_patients_are_found_by_patient_root(node: Node) -> None:
    model = PatientRootQueryRetrieveInformationModelFind
    answers, _ = find(node, "PATIENT", model, PatientID="", NumberOfPatientRelatedInstances="")
    assert [(told.PatientID, told.NumberOfPatientRelatedInstances) for told in answers] == [
        ("INVENTED-1", 2),
        ("INVENTED-2", 1),
    ]
    answers, _ = find(node, "STUDY", model, PatientID="INVENTED-2", StudyInstanceUID="")
    assert uids(answers) == [OTHER]


@pytest.mark.parametrize(
    ("asked_in", "answered_in"), [(None, "ISO_IR 100"), ("ISO_IR 192", "ISO_IR 192"), ("ISO_IR 144", "ISO_IR 100")]
)
def test_the_answer_is_in_the_querys_character_set_if_that_has_all(
    node: Node, asked_in: str | None, answered_in: str
) -> None:
    more = {"SpecificCharacterSet": asked_in} if asked_in else {}
    (told,), _ = find(node, "STUDY", **more, PatientName="erfundene*", StudyInstanceUID="")
    assert told.SpecificCharacterSet == answered_in
    assert told.PatientName == "Erfundene^Jürgen"


def test_a_name_is_found_by_a_key_in_another_character_set(node: Node) -> None:
    answers, _ = find(node, "STUDY", SpecificCharacterSet="ISO_IR 192", PatientName="*JÜRGEN", StudyInstanceUID="")
    assert uids(answers) == [OTHER]


def test_keys_that_are_not_known_are_left_out_and_said_to_be(node: Node) -> None:
    (told,), statuses = find(node, "STUDY", StudyInstanceUID=STUDY, ContrastBolusAgent="", StationName="")
    assert statuses == [0xFF01, 0x0000]
    assert "ContrastBolusAgent" not in told


# What is agreed on


def test_series_of_all_studies_are_found_once_relational_queries_are_agreed_on(node: Node) -> None:
    answers, _ = find(node, "SERIES", agreed=b"\x01\x01", SeriesInstanceUID="", Modality="XA")
    assert uids(answers, "SeriesInstanceUID") == [f"{STUDY}.1", f"{OTHER}.1"]
    answers, statuses = find(node, "SERIES", SeriesInstanceUID="", Modality="XA")
    assert (answers, statuses) == ([], [0xA900])


def test_date_and_time_are_one_once_that_is_agreed_on(node: Node) -> None:
    keys = {"StudyInstanceUID": "", "StudyDate": "20240102-20240203", "StudyTime": "100000-100500"}
    answers, _ = find(node, "STUDY", agreed=b"\x00\x01", **keys)
    assert uids(answers) == [STUDY]
    assert find(node, "STUDY", **keys)[0] == []


# What is refused, and accounted for


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("IMAGE", {"StudyInstanceUID": STUDY}),
        ("SERIES", {"StudyInstanceUID": [STUDY, OTHER]}),
        ("PATIENT", {"PatientID": ""}),
        ("FRAME", {}),
        ("", {}),
        ("STUDY", {"StudyDate": "2024"}),
    ],
)
def test_an_identifier_that_is_none_of_the_model_is_refused(node: Node, level: str, keys: dict[str, Any]) -> None:
    assert find(node, level, **keys) == ([], [0xA900])
    refused = node.rows("query_refused")[-1]
    assert (refused.outcome, refused.peer_ae, refused.details["status"]) == ("refused", "ASKER", "0xA900")


def test_who_asks_what_is_in_the_audit_trail_before_it_is_told(node: Node) -> None:
    find(node, "STUDY", StudyInstanceUID="", PatientID="INVENTED-1")
    row = node.rows("queried")[-1]
    assert (row.peer_ae, row.peer_address, row.outcome) == ("ASKER", "127.0.0.1", "success")
    assert row.details["keys"] == {"PatientID": "INVENTED-1"}
    assert row.details["matches"] == 1


def test_objects_kept_aside_are_not_shown(node: Node, tmp_path: Path) -> None:
    other = xa(
        frames=2,
        rows=16,
        columns=16,
        seed=1,
        study_instance_uid=f"{OTHER}.9",
        series_instance_uid=f"{OTHER}.9.1",
        sop_instance_uid=f"{OTHER}.1.1",
    )
    assert storescu(node.port, write(other, tmp_path / "aside.dcm")).accepted
    assert [each.kind for each in node.objects()][-1] == "aside"
    answers, _ = find(node, "STUDY", StudyInstanceUID=f"{OTHER}.9")
    assert answers == []
    answers, _ = find(
        node, "IMAGE", StudyInstanceUID=OTHER, SeriesInstanceUID=f"{OTHER}.1", SOPInstanceUID="", InstanceNumber=""
    )
    assert len(answers) == 1


def test_a_query_that_is_cancelled_ends(tmp_path: Path) -> None:
    header = xa(frames=2, rows=16, columns=16)
    del header.PixelData
    with listening(tmp_path) as node:
        with node.database.transaction() as tx:
            for number in range(1000):
                header.StudyInstanceUID = header.SeriesInstanceUID = f"1.2.3.{number}"
                keep_object(tx, received(header, f"1.2.3.{number}.1"))
        answers, statuses = find(node, "STUDY", cancel_after=1, StudyInstanceUID="")
    assert statuses[-1] == 0xFE00
    assert 1 <= len(answers) < 1000


def received(header: Dataset, uid: str) -> ReceivedObject:
    return ReceivedObject(
        sop_instance_uid=uid,
        sop_class_uid=header.SOPClassUID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=header.SeriesInstanceUID,
        modality="XA",
        frames=2,
        digest=f"{hash(uid) & (2**63 - 1):064x}",
        size=1,
        header=header,
    )
