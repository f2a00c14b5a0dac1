"""Uploads by STOW-RS (PS3.18 10.5) that lie somewhere, and how the node ended each."""

import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    XRayAngiographicImageStorage,
    generate_uid,
)

from dicom_node.network.incoming import part_10_header
from tests.factory import xa
from tests.fuzzing.conversations import Change, unchanged, written
from tests.fuzzing.mutations import cut_off, flip, nest, some_length
from tests.fuzzing.outcomes import Outcome
from tests.web import BOUNDARY, RELATED, multipart

#: How long the node may think about an upload that ended; after so long without an answer it is taken to wait for more,
#: and is told that nothing comes.
_PATIENCE, _SILENCE = 30.0, 1.5
#: In which objects are sent.
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
#: Bytes that are sent at once.
_PIECE = 16384


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One request over a connection of its own."""

    request: bytes
    #: Of the object in its first part, as it was before the mutation.
    sop_instance_uid: str


def mutated_upload(rng: Random) -> tuple[str, Upload]:
    """The name of a mutation drawn at random, and the upload that it made."""
    name = rng.choice(list(_MUTATIONS))
    uid = _uid(rng)
    return f"upload: {name}", Upload(request=_MUTATIONS[name](rng, uid), sop_instance_uid=uid)


def outcome_of_upload(upload: Upload, port: int) -> tuple[Outcome, bool]:
    """Send the upload; how it ended, and whether the node acknowledged the object that it names."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as line:
        said_all = _say(line, upload.request)
        answer = _answer(line, _SILENCE)
        if answer is None:
            # The node may have gone in this moment.
            with suppress(OSError):
                line.shutdown(socket.SHUT_WR)
            answer = _answer(line, _PATIENCE)
    if answer is None:
        return Outcome.HANGS, False
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    if found is None:
        return Outcome.ENDED_WITH_US if said_all else Outcome.DROPPED, False
    status = int(found[1])
    if status >= 500:
        return Outcome.BROKEN, False
    return Outcome.ANSWERED, status in (200, 202) and upload.sop_instance_uid in _stored(answer)


def _say(line: socket.socket, request: bytes) -> bool:
    """Send piece by piece; whether the node took all of it."""
    try:
        for start in range(0, len(request), _PIECE):
            line.sendall(request[start : start + _PIECE])
    except OSError:
        return False
    return True


def _answer(line: socket.socket, seconds: float) -> bytes | None:
    """All that the node says until it closes the connection; None when it says nothing for so long."""
    line.settimeout(seconds)
    received = b""
    try:
        while data := line.recv(65536):
            received += data
    except TimeoutError:
        return None
    except OSError:
        pass
    return received


def _stored(answer: bytes) -> list[str]:
    """The SOP Instance UIDs of the Referenced SOP Sequence (PS3.18 table I.2-1)."""
    _, _, body = answer.partition(b"\r\n\r\n")
    start, end = body.find(b"{"), body.rfind(b"}")
    items = json.loads(body[start : end + 1]).get("00081199", {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in items]


def _request(body: bytes, length: int | None = None, content_type: str = RELATED) -> bytes:
    """A whole POST; length: what it says of its body, when that is not true."""
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Accept: application/dicom+json\r\nConnection: close\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def _uid(rng: Random) -> str:
    return generate_uid(entropy_srcs=[str(rng.getrandbits(64))])


def _file(rng: Random, uid: str, change: Change = unchanged) -> bytes:
    syntax = rng.choice(_SYNTAXES)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = XRayAngiographicImageStorage, uid
    meta.TransferSyntaxUID = syntax
    return part_10_header(meta) + written(rng, xa(frames=2, sop_instance_uid=uid), syntax, change)


def _bits_of_the_request(rng: Random, uid: str) -> bytes:
    request = _request(multipart([_file(rng, uid)]))
    # In what HTTP and MIME say, more than in the object.
    return flip(rng, request[:700]) + request[700:]


def _cut_off(rng: Random, uid: str) -> bytes:
    return cut_off(rng, _request(multipart([_file(rng, uid)])))


def _another_length(rng: Random, uid: str) -> bytes:
    body = multipart([_file(rng, uid)])
    return _request(body, some_length(rng, len(body), 1 << 40))


def _bits_of_a_file(rng: Random, uid: str) -> bytes:
    file = _file(rng, uid)
    return _request(multipart([flip(rng, file[:1500], most=20) + file[1500:], _file(rng, _uid(rng))]))


def _a_file_cut_off(rng: Random, uid: str) -> bytes:
    return _request(multipart([cut_off(rng, _file(rng, uid))]))


def _boundaries(rng: Random, uid: str) -> bytes:
    body = multipart([_file(rng, uid), _file(rng, _uid(rng))])
    mark = BOUNDARY.encode()
    for _ in range(rng.randint(1, 3)):
        other = rng.choice([b"", mark + mark, b"--" + mark, mark[:-1], b"\r\n--" + mark + b"--"])
        body = body.replace(mark, other, rng.randint(1, 3))
    return _request(body)


def _nested_sequences(rng: Random, uid: str) -> bytes:
    return _request(multipart([_file(rng, uid, partial(nest, rng))]))


_MUTATIONS: dict[str, Callable[[Random, str], bytes]] = {
    "bits of the request": _bits_of_the_request,
    "cut off": _cut_off,
    "another length": _another_length,
    "bits of a file": _bits_of_a_file,
    "a file cut off": _a_file_cut_off,
    "boundaries": _boundaries,
    "nested sequences": _nested_sequences,
}
