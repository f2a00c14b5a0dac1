"""The requests of WADO-RS: GET of objects, and of their metadata, frames, bulk data and pictures (PS3.18 10.4.1)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Depends
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response

from config.errors import DamagedObject, UnsupportedImage
from dicom_node.network.dicomweb.frames import bulk_data_of, frames_of, read_frame_list
from dicom_node.network.dicomweb.media_types import DICOM, MediaType, read_accepted
from dicom_node.network.dicomweb.metadata import metadata
from dicom_node.network.dicomweb.places import services_of
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.rendering import (
    Render,
    frame_count,
    pictures_of,
    read_view,
    representative_frame,
)
from dicom_node.network.dicomweb.sending import Sending, related
from dicom_node.network.dicomweb.whole_objects import accepted_syntaxes, object_parts
from dicom_node.network.incoming import Peer
from dicom_node.network.retrieval_audit import (
    account_for_end,
    account_for_parts,
    account_for_refusal,
    account_for_start,
)
from storage.answers import HeldObject, objects_within
from storage.database import Database
from storage.files import ObjectStore
from storage.levels import UNIQUE_KEY, Level
from storage.matching import read_keys
from storage.search import search

_LEVELS = {
    Level.STUDY: "/studies/{study}",
    Level.SERIES: "/studies/{study}/series/{series}",
    Level.IMAGE: "/studies/{study}/series/{series}/instances/{instance}",
}
_NAMES = {Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One request, and the objects that its path names."""

    request: Request
    peer: Peer
    objects: Sequence[HeldObject]
    accepted: Sequence[MediaType]
    path: Mapping[str, str]
    query: Mapping[str, str]


#: Makes an answer.
_Answer = Callable[[_Asked], Response]


def retrieve_requests(
    database: Database, store: ObjectStore, render: Render, admit: Callable[[Request], Peer]
) -> APIRouter:
    """The requests; render: makes pictures; admit: tells who asks, or refuses."""
    router = APIRouter()
    answers = _Answers(database, store, render)
    for level, place in _LEVELS.items():
        offered: dict[str, _Answer] = {
            "": answers.whole,
            "/metadata": answers.metadata,
            "/rendered": answers.rendered,
            "/thumbnail": answers.thumbnail,
        }
        if level == Level.IMAGE:
            offered |= {
                "/frames/{frames}": answers.frames,
                "/frames/{frames}/rendered": answers.rendered,
                "/frames/{frames}/thumbnail": answers.thumbnail,
                "/bulkdata/{tag}": answers.bulk_data,
            }
        for further, answer in offered.items():
            endpoint = _endpoint(database, admit, level, answer)
            router.add_api_route(f"{place}{further}", endpoint, response_model=None)
    return router


def _endpoint(
    database: Database, admit: Callable[[Request], Peer], level: Level, answer: _Answer
) -> Callable[..., Response]:
    """What serves a path: it finds the objects, has them answered, and accounts for a refusal."""

    def endpoint(request: Request, peer: Peer = Depends(admit)) -> Response:  # noqa: B008 - it is how FastAPI is asked
        try:
            objects = _named(database, level, request.path_params)
            query = dict(request.query_params)
            accepted = read_accepted(query.get("accept") or request.headers.get("accept"))
            asked = _Asked(
                request=request, peer=peer, objects=objects, accepted=accepted, path=request.path_params, query=query
            )
            return answer(asked)
        except UnsupportedImage as error:
            problem = Problem(406, str(error))
        except DamagedObject:
            said = "The files of what is asked for are missing from the store; the administrator restores them."
            problem = Problem(500, said)
        except Problem as error:
            problem = error
        account_for_refusal(database, peer, peer.calling_ae, problem.status, str(problem))
        raise problem

    return endpoint


def _named(database: Database, level: Level, path: Mapping[str, str]) -> list[HeldObject]:
    """The objects of a path; Problem (400) for a path without UIDs, Problem (404) if none is held."""
    named = Dataset()
    for each, name in _NAMES.items():
        if name in path:
            if not _UID.fullmatch(path[name]):
                raise Problem(400, f"The path names no {UNIQUE_KEY[each]}.")
            setattr(named, UNIQUE_KEY[each], path[name])
    with database.reading() as tx:
        objects = objects_within(tx, level, search(tx, level, read_keys(named)))
    if not objects:
        raise Problem(404, "Nothing is held here under the UIDs of the path.")
    return objects


class _Answers:
    """The answers over a database and an object store. Each raises Problem where there is none."""

    def __init__(self, database: Database, store: ObjectStore, render: Render) -> None:
        self._database = database
        self._store = store
        self._render = render

    def whole(self, asked: _Asked) -> Response:
        """The objects themselves."""
        syntaxes, has_parts = accepted_syntaxes(asked.accepted, alone=len(asked.objects) == 1)
        held, to, sent = self._held(asked.objects), asked.peer.calling_ae, set[str]()
        parts = object_parts(self._store, held, syntaxes, sent)

        def ended() -> None:
            account_for_end(self._database, asked.peer, asked.objects, sent, to)

        if has_parts:
            pieces, media_type = related(parts, DICOM)
        else:
            pieces, media_type = (piece for part in parts for piece in part.content), DICOM
        # What is lost of several is told by the status (PS3.18 table 10.4.3-1).
        status = 200 if len(held) == len(asked.objects) else 206
        answer = Sending(pieces, media_type, status=status, on_end=ended)
        account_for_start(self._database, asked.peer, asked.objects, to)
        return answer

    def metadata(self, asked: _Asked) -> Response:
        """What they say of themselves."""
        held = self._held(asked.objects)
        return self._part(
            asked, "metadata", metadata(self._store, held, services_of(asked.request), asked.accepted), held
        )

    def frames(self, asked: _Asked) -> Response:
        """Frames of one."""
        wanted, (path,) = read_frame_list(asked.path["frames"]), self._paths(asked)
        return self._part(asked, f"frames {asked.path['frames']}"[:64], frames_of(path, wanted, asked.accepted))

    def bulk_data(self, asked: _Asked) -> Response:
        """The value of an attribute of one."""
        (path,), tag = self._paths(asked), asked.path["tag"]
        return self._part(asked, f"bulk data {tag}"[:64], bulk_data_of(path, tag, asked.accepted))

    def rendered(self, asked: _Asked) -> Response:
        """Pictures of them, or of frames of one."""
        view, has_parts = read_view(asked.query, asked.accepted, thumbnail=False)
        frames = self._pictures(asked)
        return self._part(asked, "rendered", pictures_of(self._render, frames, view, has_parts=has_parts))

    def thumbnail(self, asked: _Asked) -> Response:
        """A small picture of the first of them, or of a frame of one."""
        view, has_parts = read_view(asked.query, asked.accepted, thumbnail=True)
        frames = self._pictures(asked)[:1]
        return self._part(asked, "thumbnail", pictures_of(self._render, frames, view, has_parts=has_parts))

    def _part(
        self,
        asked: _Asked,
        parts: str,
        made: tuple[Iterator[bytes], str],
        held: Sequence[HeldObject] | None = None,
    ) -> Response:
        pieces, media_type = made
        answer = Sending(pieces, media_type, status=200 if held is None or len(held) == len(asked.objects) else 206)
        account_for_parts(self._database, asked.peer, asked.objects, asked.peer.calling_ae, parts)
        return answer

    def _held(self, objects: Sequence[HeldObject]) -> list[HeldObject]:
        """Those whose files are there; DamagedObject if none is."""
        held = [object for object in objects if self._store.path(object.digest).exists()]
        if not held:
            self._store.open(objects[0].digest).close()
            raise DamagedObject("A file is missing from the store.")
        return held

    def _paths(self, asked: _Asked) -> list[Path]:
        return [self._store.path(object.digest) for object in self._held(asked.objects)]

    def _pictures(self, asked: _Asked) -> list[tuple[Path, int]]:
        """The frames that are to be shown: those that the path names, else one of each object that has any."""
        paths = self._paths(asked)
        if "frames" in asked.path:
            wanted = read_frame_list(asked.path["frames"])
            if max(wanted) >= frame_count(paths[0]):
                raise Problem(404, "The object does not have so many frames.")
            return [(paths[0], frame) for frame in wanted]
        found = [(path, frame) for path in paths if (frame := representative_frame(path)) is not None]
        if not found:
            raise Problem(406, "There is no picture among what is asked for.")
        return found
