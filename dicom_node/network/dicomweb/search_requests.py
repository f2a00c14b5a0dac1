"""The requests of QIDO-RS: GET of studies, series and instances (PS3.18 10.6.1)."""

from collections.abc import Callable, Mapping

import structlog
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.audit import Action, record
from dicom_node.network.dicomweb.answers import json_answer
from dicom_node.network.dicomweb.places import services_of
from dicom_node.network.dicomweb.search import Found, Question, find, read_question
from dicom_node.network.incoming import Peer
from storage.database import Database
from storage.levels import Level

log = structlog.get_logger()

#: Characters of a key's value that the audit trail has.
_LONGEST_TOLD = 64


def search_requests(database: Database, admit: Callable[[Request], Peer]) -> APIRouter:
    """The requests; admit: tells who asks, or refuses."""
    router = APIRouter()
    asks = Depends(admit)

    @router.get("/studies")
    def studies(request: Request, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.STUDY, {})

    @router.get("/series")
    def series(request: Request, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.SERIES, {})

    @router.get("/instances")
    def instances(request: Request, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.IMAGE, {})

    @router.get("/studies/{study}/series")
    def series_of_study(request: Request, study: str, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.SERIES, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/instances")
    def instances_of_study(request: Request, study: str, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.IMAGE, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/series/{series}/instances")
    def instances_of_series(request: Request, study: str, series: str, peer: Peer = asks) -> Response:
        return answer(request, peer, Level.IMAGE, {"StudyInstanceUID": study, "SeriesInstanceUID": series})

    def answer(request: Request, peer: Peer, level: Level, path: Mapping[str, str]) -> Response:
        question = read_question(level, path, request.query_params.multi_items())
        base = services_of(request)
        found = find(database, question, base)
        _account(database, peer, question, found)
        warnings = list(question.warnings)
        if found.remaining:
            warnings.append(f"There are {found.remaining} additional results that can be requested.")
        headers = {"Warning": ", ".join(f'299 {base} "{warning}"' for warning in warnings)} if warnings else {}
        response = json_answer(request.headers.get("accept"), found.data_sets, headers)
        return response if found.data_sets else Response(status_code=204, headers=headers)

    return router


def _account(database: Database, peer: Peer, question: Question, found: Found) -> None:
    """Note who asked what, before it is told (PS3.15 A.5.3.10)."""
    keys = {key.keyword: "\\".join(key.values)[:_LONGEST_TOLD] for key in question.keys if not key.is_universal}
    with database.transaction() as tx:
        record(
            tx,
            Action.QUERIED,
            actor=peer.actor,
            peer_ae=peer.calling_ae,
            peer_address=peer.address,
            study_instance_uid=keys.get("StudyInstanceUID"),
            details={
                "level": question.level.value,
                "keys": keys,
                "matches": found.matches,
                "called_ae": peer.called_ae,
                "association": peer.association_id,
            },
        )
    log.info("queried", level=question.level.value, matches=found.matches, calling_ae=peer.calling_ae)
