"""The requests of STOW-RS: POST to /studies and to /studies/{study} (PS3.18 10.5.1)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import structlog
from fastapi import APIRouter, Depends
from pydicom.dataset import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dicom_node.network.dicomweb.answers import data_set_answer
from dicom_node.network.dicomweb.media_types import DICOM, RELATED, read_media_type
from dicom_node.network.dicomweb.multipart import MultipartReader
from dicom_node.network.dicomweb.places import instance_at, services_of, study_at
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.store import Outcome, StoreTransaction, http_status, store_response
from dicom_node.network.incoming import Peer
from dicom_node.network.intake import Intake
from dicom_node.network.statuses import Status
from storage.database import Database
from storage.objects import objects_under

log = structlog.get_logger()

#: Seconds without a byte after which a client counts as gone.
_IDLE_SECONDS = 60.0
#: Bytes of a request that are handed on at once.
_STRETCH = 1 << 20


def store_requests(
    intake: Intake, database: Database, admit: Callable[[Request], Peer], largest: int | None = None
) -> APIRouter:
    """The requests; admit: tells who asks, or refuses; largest: bytes that an object may have."""
    router = APIRouter()
    asks = Depends(admit)

    @router.post("/studies")
    async def store(request: Request, peer: Peer = asks) -> Response:
        return await _store(request, peer, None)

    @router.post("/studies/{study}")
    async def store_in_study(request: Request, study: str, peer: Peer = asks) -> Response:
        return await _store(request, peer, study)

    async def _store(request: Request, peer: Peer, study: str | None) -> Response:
        transaction = StoreTransaction(intake, peer, study, largest)
        sink = _Sink(transaction, request.headers.get("content-type", ""))
        if not await run_in_threadpool(intake.has_room):
            raise Problem(503, "The disk is nearly full.", {"Retry-After": "60"})
        if not await run_in_threadpool(intake.has_room, _length(request)):
            raise Problem(413, "The message is larger than the room that is left on the disk.")
        incomplete, released = 0, False
        try:
            problem = await _read(request, sink)
            incomplete = await run_in_threadpool(transaction.break_off)
            released = problem is None
            if problem is not None and not transaction.outcomes:
                raise problem
        finally:
            # Even when the server ends: what was brought is to be passed on.
            with anyio.CancelScope(shield=True):
                incomplete += await run_in_threadpool(transaction.break_off)
                await run_in_threadpool(lambda: intake.ended(peer, released=released, incomplete=incomplete))
        if not transaction.outcomes:
            raise Problem(400, "The message has no parts.")
        base = services_of(request)
        response = await run_in_threadpool(
            lambda: _response(database, transaction.outcomes, base, broken=problem is not None)
        )
        status = http_status(transaction.outcomes, broken=problem is not None)
        headers = {"Retry-After": "60"} if status == 503 else {}
        return data_set_answer(request.headers.get("accept"), response, status, headers)

    return router


def _length(request: Request) -> int:
    """Bytes that the body is said to have; 0 where that is not said."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() else 0


class _Sink:
    """Takes the body: a multipart message of objects, or one object."""

    def __init__(self, transaction: StoreTransaction, content_type: str) -> None:
        media_type = read_media_type(content_type)
        if media_type.name not in (DICOM, RELATED) or media_type.part not in (DICOM, "*/*"):
            raise Problem(415, f"Objects are taken as {DICOM}, alone or in {RELATED}.")
        self._transaction = transaction
        self._reader: MultipartReader | None = None
        if media_type.name == RELATED:
            boundary = media_type.parameters.get("boundary", "")
            if not boundary:
                raise Problem(400, "The Content-Type names no boundary.")
            self._reader = MultipartReader(boundary, transaction)
        else:
            transaction.begin(media_type)

    def write(self, data: bytes) -> None:
        """More of the body."""
        (self._reader or self._transaction).write(data)

    def end(self) -> None:
        """The body is whole."""
        (self._reader or self._transaction).end()


async def _read(request: Request, sink: _Sink) -> Problem | None:
    """Read the body to its end; what was wrong with it, if anything."""
    try:
        async for stretch in _stretches(request):
            await run_in_threadpool(sink.write, stretch)
        await run_in_threadpool(sink.end)
    except Problem as problem:
        return problem
    except ClientDisconnect:
        return Problem(400, "The client ended the connection.")
    except TimeoutError:
        return Problem(408, f"Nothing has arrived for {_IDLE_SECONDS:g} s.", {"Connection": "close"})
    return None


async def _stretches(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces worth handing on; what has come before an error comes before it."""
    gathered, chunks = bytearray(), request.stream()
    ended: Exception | None = None
    while ended is None:
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                gathered += await anext(chunks)
        except (StopAsyncIteration, ClientDisconnect, TimeoutError) as error:
            ended = error
        if ended is not None or len(gathered) >= _STRETCH:
            yield bytes(gathered)
            gathered.clear()
    if not isinstance(ended, StopAsyncIteration):
        raise ended


def _response(database: Database, outcomes: Sequence[Outcome], base: str, *, broken: bool) -> Dataset:
    """The response data set, with the places where what is stored can be retrieved."""
    response = store_response(outcomes, broken=broken)
    uids = [outcome.request.sop_instance_uid for outcome in outcomes if outcome.status == Status.SUCCESS]
    with database.reading() as tx:
        rows = {uid: found[0] for uid, found in objects_under(tx, uids).items()}
    studies = {row.study_instance_uid for row in rows.values()}
    response.RetrieveURL = study_at(base, next(iter(studies))) if len(studies) == 1 else ""
    for item in response.get("ReferencedSOPSequence", []):
        row = rows[item.ReferencedSOPInstanceUID]
        place = instance_at(base, row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)
        item.RetrieveURL = place
    return response
