"""The STOW-RS user agent: sends objects to a DICOMweb server, and says what it acknowledged (PS3.18 10.5).

By requests, which dicomweb-client builds on: that client encodes each object anew, and holds the whole message in
memory.
"""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr
from pydicom.dataset import Dataset
from requests.exceptions import RequestException, SSLError, Timeout

from config.errors import DamagedObject, PeerRefused, PeerUnavailable
from dicom_node.network.dicomweb.media_types import DICOM, JSON, RELATED
from dicom_node.network.sender import STORED_BEFORE, ObjectPostponed, ObjectRefused, Sent, identified
from dicom_node.network.tls import Credentials
from storage.faultpoint import faultpoint

_PIECE = 1 << 20
#: HTTP statuses that are about the object, and will be the same another time (PS3.18 10.5.3).
_OF_THE_OBJECT = (400, 409, 413, 415, 422)


class WebDestination(Protocol):
    """Where to send."""

    @property
    def url(self) -> str | None: ...
    @property
    def user(self) -> str: ...
    @property
    def token(self) -> SecretStr | None: ...


def send_by_http(
    destination: WebDestination, paths: Sequence[Path], timeout_seconds: float, credentials: Credentials | None = None
) -> Iterator[Sent]:
    """Store part-10 files as they are, one a request, and yield each object when it is acknowledged.

    credentials: for a server that is called over TLS: what this node shows, and whom it trusts; without them it shows
        nothing and trusts the authorities that requests does.
    Raises PeerUnavailable (unreachable, silent, busy, will not have this node) or PeerRefused (will not have the
    object) at the first object that was not acknowledged, as `send` does. DamagedObject for a file that cannot be sent.
    """
    with _session(destination, credentials) as session:
        for path in paths:
            uid = str(identified(path).sop_instance_uid)
            faultpoint("delivery.sending")
            answer = _post(session, destination, path, timeout_seconds)
            yield Sent(uid, _status(answer, uid, str(destination.url)))


def ask_by_http(destination: WebDestination, timeout_seconds: float, credentials: Credentials | None = None) -> None:
    """Whether a server answers and lets this node in (QIDO-RS); raises PeerUnavailable."""
    with _session(destination, credentials) as session:
        url = f"{destination.url}/studies?limit=1"
        answer = _asked(session, "GET", url, str(destination.url), timeout_seconds, {"Accept": JSON}, None)
    if answer.status_code >= 300:
        raise PeerUnavailable(f"{destination.url} answers with HTTP status {answer.status_code}.")


class _Message:
    """A multipart message of one file, which is read while it is sent."""

    def __init__(self, path: Path) -> None:
        boundary = uuid.uuid4().hex
        self.media_type = f'{RELATED}; type="{DICOM}"; boundary={boundary}'
        self._path = path
        self._head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._path.stat().st_size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            yield from iter(lambda: file.read(_PIECE), b"")
        yield self._tail


def _session(destination: WebDestination, credentials: Credentials | None) -> requests.Session:
    session = requests.Session()
    token = destination.token.get_secret_value() if destination.token is not None else ""
    if destination.user:
        session.auth = (destination.user, token)
    elif token:
        session.auth = lambda request: _with_bearer(request, token)
    if credentials is not None and urlsplit(destination.url or "").scheme == "https":
        session.verify, session.cert = credentials.files_for_http()
    return session


def _with_bearer(request: requests.PreparedRequest, token: str) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _post(session: requests.Session, destination: WebDestination, path: Path, timeout: float) -> requests.Response:
    message = _Message(path)
    headers = {"Content-Type": message.media_type, "Accept": JSON}
    try:
        return _asked(session, "POST", f"{destination.url}/studies", str(destination.url), timeout, headers, message)
    except OSError as error:
        raise DamagedObject(f"{path} cannot be read.") from error


def _asked(
    session: requests.Session,
    method: str,
    url: str,
    who: str,
    timeout: float,
    headers: dict[str, str],
    message: _Message | None,
) -> requests.Response:
    """An answer, whatever it says; PeerUnavailable without one."""
    try:
        return session.request(
            method,
            url,
            data=message,
            headers=headers,
            timeout=timeout,
            # Said once more: an environment that names authorities comes before what is said of the session.
            verify=session.verify,
            # Elsewhere it would be sent without the token, or the token be shown to whoever is there.
            allow_redirects=False,
        )
    except SSLError as error:
        raise PeerUnavailable(f"{who} cannot be called over TLS: one of the certificates is not taken.") from error
    except Timeout as error:
        raise PeerUnavailable(f"{who} does not answer in time.") from error
    except RequestException as error:
        raise PeerUnavailable(f"{who} cannot be reached, or ended the connection.") from error


def _status(answer: requests.Response, sop_instance_uid: str, who: str) -> int:
    """The DIMSE status that an answer comes to, if the object is stored; raises what it comes to if not."""
    said = _read(answer)
    reason = _reason(said, sop_instance_uid)
    if reason == STORED_BEFORE:
        return STORED_BEFORE
    if reason is not None:
        if reason & 0xFF00 == 0xA700 and answer.status_code != 413:
            raise ObjectPostponed(f"{who} is out of resources (0x{reason:04X}).", reason)
        raise ObjectRefused(f"{who} refused the object with failure reason 0x{reason:04X}.", reason)
    if answer.status_code in (200, 202):
        return _warning(said, sop_instance_uid)
    if answer.status_code in _OF_THE_OBJECT:
        raise PeerRefused(f"{who} refused the object with HTTP status {answer.status_code}.")
    # Of the server, the address or the token: time or an administrator mends it.
    raise PeerUnavailable(f"{who} answers with HTTP status {answer.status_code}.")


def _read(answer: requests.Response) -> Dataset:
    """The response data set (PS3.18 I.2); an empty one where there is none that can be read."""
    try:
        return Dataset.from_json(answer.json())
    except Exception:  # whatever foreign bytes do to the parsers, the HTTP status tells enough
        return Dataset()


def _reason(said: Dataset, sop_instance_uid: str) -> int | None:
    """The Failure Reason of the object, None if it did not fail."""
    failed = [
        item
        for item in said.get("FailedSOPSequence") or []
        if item.get("ReferencedSOPInstanceUID") in (sop_instance_uid, None)
    ]
    for item in [*failed, *(said.get("OtherFailuresSequence") or [])]:
        return int(item.get("FailureReason") or 0x0110)
    return None


def _warning(said: Dataset, sop_instance_uid: str) -> int:
    for item in said.get("ReferencedSOPSequence") or []:
        if item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            return int(item.get("WarningReason") or 0)
    return 0
