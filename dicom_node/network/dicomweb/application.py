"""The DICOMweb services on one application (PS3.18 10)."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from config.errors import FullfieldError, StorageFull, StorageUnavailable
from config.listener import TitleSettings
from config.settings import WebSettings
from dicom_node.network.dicomweb.admission import Admission
from dicom_node.network.dicomweb.places import ROOT
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.rendering import Render
from dicom_node.network.dicomweb.retrieve_requests import retrieve_requests
from dicom_node.network.dicomweb.search_requests import search_requests
from dicom_node.network.dicomweb.store_requests import store_requests
from dicom_node.network.incoming import Peer
from dicom_node.network.intake import Intake
from storage.database import Database
from storage.files import ObjectStore

#: What a client is told to wait before it tries again, in seconds.
_AGAIN = {"Retry-After": "60"}


def build_application(
    settings: WebSettings, title: TitleSettings, intake: Intake, database: Database, store: ObjectStore, render: Render
) -> FastAPI:
    """The application.

    title: that which web clients count as having called, and whose largest object is theirs; render: makes pictures of
        frames.
    """
    admission = Admission(settings, title.ae_title, intake)
    largest = None if title.max_object_mb is None else title.max_object_mb << 20

    def admit(request: Request) -> Peer:
        return admission.admit(request)

    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    application.include_router(store_requests(intake, database, admit, largest), prefix=ROOT)
    application.include_router(search_requests(database, admit), prefix=ROOT)
    application.include_router(retrieve_requests(database, store, render, admit), prefix=ROOT)
    application.add_exception_handler(FullfieldError, _refusal)
    if settings.origins:
        application.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Accept", "Authorization", "Content-Type"],
        )
    return application


def _refusal(_request: Request, error: Exception) -> Response:
    """An error as an answer: a status, and one sentence."""
    if isinstance(error, Problem):
        return PlainTextResponse(f"{error}\n", error.status, error.headers)
    if isinstance(error, StorageFull | StorageUnavailable):
        return PlainTextResponse("The node cannot do it now; try again later.\n", 503, _AGAIN)
    return PlainTextResponse(f"{error}\n", 500)
