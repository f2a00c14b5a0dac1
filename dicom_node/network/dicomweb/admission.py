"""Who may ask: by address and token, as the settings say (RFC 6750, RFC 7617)."""

import base64
import binascii
import hmac
import uuid
from ipaddress import ip_address, ip_network

import structlog
from starlette.requests import Request

from config.settings import AllowedWebClient, WebSettings, is_loopback
from dicom_node.audit import Action
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.incoming import Peer, printable
from dicom_node.network.intake import Intake

log = structlog.get_logger()

ACTOR = "dicomweb"
#: What stands for the calling AE title of a client that has no name in the settings.
UNNAMED = "DICOMWEB"

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dicom-web", Basic realm="dicom-web", charset="UTF-8"'}


class Admission:
    """Tells who asks, or refuses, and accounts for refusals."""

    def __init__(self, settings: WebSettings, called_ae: str, intake: Intake) -> None:
        self._settings = settings
        self._called_ae = called_ae
        self._intake = intake

    def admit(self, request: Request) -> Peer:
        """Who asks. Raises Problem: 401 for whoever shows no token, 403 for who may not ask from where it is."""
        address = request.client.host if request.client is not None else ""
        try:
            return self._peer(self._name(request, address), address)
        except Problem as problem:
            peer = self._peer(UNNAMED, address)
            log.warning("request refused", status=problem.status, reason=str(problem))
            self._intake.account(Action.REQUEST_REFUSED, peer, "refused", reason=str(problem), status=problem.status)
            raise

    def _peer(self, calling_ae: str, address: str) -> Peer:
        return Peer(
            calling_ae=calling_ae,
            called_ae=self._called_ae,
            address=address,
            association_id=uuid.uuid4().hex[:16],
            actor=ACTOR,
        )

    def _name(self, request: Request, address: str) -> str:
        if not self._settings.allow:
            # A page of another server must not read here by a name of its own that leads to this machine.
            host = (request.url.hostname or "").strip("[]")
            if not (is_loopback(host) or host == self._settings.host):
                raise Problem(403, "The request names another host than this machine.")
            return UNNAMED
        user, token = _credentials(request.headers.get("authorization", ""))
        shown = [client for client in self._settings.allow if _shows(client, user, token)]
        if not shown:
            raise Problem(401, "The request shows no token that is known here.", _CHALLENGE)
        for client in shown:
            if _may_call_from(client, address):
                return client.ae_title
        raise Problem(403, "The client may not call from its address.")


def _credentials(header: str) -> tuple[str | None, str]:
    """User, if there is one, and token of an Authorization header."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return None, rest.strip()
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None, ""
    return printable(user), password


def _shows(client: AllowedWebClient, user: str | None, token: str) -> bool:
    if client.token is None:
        return True
    same = hmac.compare_digest(client.token.get_secret_value().encode(), token.encode())
    return same and user in (None, client.ae_title)


def _may_call_from(client: AllowedWebClient, address: str) -> bool:
    if not client.addresses:
        return True
    called_from = ip_address(address.partition("%")[0])
    return any(called_from in ip_network(network, strict=False) for network in client.addresses)
