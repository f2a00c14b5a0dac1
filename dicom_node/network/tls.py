"""TLS for associations after the BCP 195 RFC 8996, 9325 profile (PS3.15 B.12).

TLS 1.3, or else 1.2 with what RFC 9325 4.2 recommends; nothing older is negotiated, and nothing falls back to a
connection without TLS. Both sides show a certificate, on every connection.
"""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import ConfigError, FullfieldError
from config.settings import TLSSettings
from dicom_node.certificates import certificates_in

#: Seconds that a handshake may take, whatever the peer does.
HANDSHAKE_SECONDS = 15.0

#: Cipher suites of TLS 1.2 (RFC 9325 4.2); those of TLS 1.3 are all as good. Keys and signatures of less than 112
#: bits of security are not accepted (RFC 9325 4.5): RSA below 2048 bits, SHA-1.
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

#: Seconds and bytes for which a refused peer is heard, so that its system does not drop the alert that says why.
_PARTING_SECONDS = 1.0
_PARTING_BYTES = 1 << 16


class NotSecured(FullfieldError):
    """A connection did not become one over TLS: the administrators of both sides mend it."""


@dataclass(frozen=True)
class _Contexts:
    acceptor: ssl.SSLContext
    requestor: ssl.SSLContext


class Credentials:
    """What this node shows of itself and by what it trusts others, as the files were when last read.

    Raises ConfigError for files that cannot be used.
    """

    def __init__(self, settings: TLSSettings) -> None:
        self._settings = settings
        self._contexts = _read(settings)

    @property
    def name(self) -> str:
        """The name of this node in its certificate."""
        assert self._settings.certificate is not None
        return certificates_in(self._settings.certificate)[0].name

    def files_for_http(self) -> tuple[str, str | tuple[str, str]]:
        """The authorities, and the certificate with its key, as files: requests reads them itself."""
        certificate, authorities, key = self._settings.certificate, self._settings.authorities, self._settings.key
        return str(authorities), str(certificate) if key is None else (str(certificate), str(key))

    def reload(self) -> None:
        """Read the files again, for connections to come; after a ConfigError those read before stay in force."""
        self._contexts = _read(self._settings)

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """Secure a connection that a peer has opened; raises NotSecured, and the connection is closed."""
        return _handshake(self._contexts.acceptor.wrap_socket, connection, server_side=True)

    def connect(self, connection: socket.socket, host: str, name: str) -> ssl.SSLSocket:
        """Secure a connection that this node has opened to a host, whose certificate must bear a name.

        Raises NotSecured, and the connection is closed.
        """
        secured = _handshake(self._contexts.requestor.wrap_socket, connection, server_hostname=host)
        shown = names_shown(secured) or ()
        if not bears(shown, name):
            secured.close()
            raise NotSecured(f"Its certificate is that of {_listed(shown)}, not of {name}.")
        return secured


def credentials_of(settings: TLSSettings) -> Credentials | None:
    """The credentials that the settings name, None if there is to be no TLS; raises ConfigError."""
    return Credentials(settings) if settings.certificate is not None else None


def names_shown(connection: socket.socket) -> tuple[str, ...] | None:
    """The names in the certificate that a peer showed; None for a connection without TLS."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    subject = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    alternative = [value for kind, value in certificate.get("subjectAltName", ()) if isinstance(value, str)]
    return tuple(dict.fromkeys([*subject, *alternative]))


def bears(shown: tuple[str, ...], name: str) -> bool:
    """Whether a name is among those of a certificate: the whole name, for a wildcard is none of a system's own."""
    return name.casefold() in [one.casefold() for one in shown]


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names) or "nobody"


def _read(settings: TLSSettings) -> _Contexts:
    certificate, authorities = settings.certificate, settings.authorities
    assert certificate is not None
    assert authorities is not None
    acceptor, requestor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (acceptor, requestor):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join((*CIPHER_SUITES, "@SECLEVEL=2")))
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        # The name is compared here: systems in hospitals are rarely called by what DNS knows of them.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        # The certificate of one system may be trusted, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load(context, certificate, settings.key or certificate, authorities)
    # A peer that resumes a session does not show its certificate again, which may have run out.
    acceptor.num_tickets = 0
    return _Contexts(acceptor, requestor)


def _load(context: ssl.SSLContext, certificate: Path, key: Path, authorities: Path) -> None:
    for file, what in ((certificate, "certificate"), (key, "key"), (authorities, "authorities")):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ConfigError(f"tls.{what}: {file} cannot be read: {error.strerror}.") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        # OpenSSL's own words are for programmers; a weak key (RFC 9325 4.5) is worth telling apart.
        reason = getattr(error, "reason", None) or ""
        if reason == "KEY_VALUES_MISMATCH":
            said = f"tls.key: {key} is not the key of {certificate}"
        elif reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            said = f"tls.certificate: the key or the signature of {certificate} is too weak; RSA needs 2048 bits"
        else:
            said = f"tls.certificate: {certificate} and {key} do not hold a certificate and its unencrypted key in PEM"
        raise ConfigError(f"{said}.") from error
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:
        raise ConfigError(f"tls.authorities: {authorities} holds no certificate in PEM.") from error


def _no_password() -> str:
    """Instead of a question on the terminal, where nobody sits."""
    return ""


def _handshake(wrap: Any, connection: socket.socket, **how: Any) -> ssl.SSLSocket:
    connection.settimeout(HANDSHAKE_SECONDS)
    try:
        secured: ssl.SSLSocket = wrap(connection, do_handshake_on_connect=False, **how)
    except OSError as error:
        connection.close()
        raise NotSecured(_reason(error)) from error
    try:
        # Bounded as a whole, not read by read.
        secured.do_handshake()
    except (OSError, ValueError) as error:
        _part(secured)
        raise NotSecured(_reason(error)) from error
    return secured


def _part(refused: ssl.SSLSocket) -> None:
    """Close a connection in such a way that the alert arrives."""
    with suppress(OSError, ValueError):
        refused.shutdown(socket.SHUT_WR)
        refused.settimeout(_PARTING_SECONDS)
        heard = 0
        while heard < _PARTING_BYTES and (fragment := refused.recv(4096)):
            heard += len(fragment)
    refused.close()


#: What OpenSSL calls by these names (ssl/ssl_err.c, and RFC 8446 6.2 for alerts of the peer's).
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "It showed no certificate.",
    "NO_SHARED_CIPHER": "It has no cipher suite that is accepted here.",
    "UNSUPPORTED_PROTOCOL": "It speaks no TLS of version 1.2 or 1.3.",
    "NO_PROTOCOLS_AVAILABLE": "It speaks no TLS of version 1.2 or 1.3.",
    "TLSV1_ALERT_PROTOCOL_VERSION": "It speaks no TLS of version 1.2 or 1.3.",
    "WRONG_VERSION_NUMBER": "It does not speak TLS.",
    "HTTP_REQUEST": "It does not speak TLS.",
    "UNKNOWN_PROTOCOL": "It does not speak TLS.",
    "TLSV1_ALERT_UNKNOWN_CA": "It does not trust the certificate of this node.",
    "SSLV3_ALERT_BAD_CERTIFICATE": "It does not accept the certificate of this node.",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "It says that the certificate of this node has expired.",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "It does not accept the certificate of this node.",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "It accepts no cipher suite of this node.",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "It asks for a certificate of this node.",
}


def _reason(error: Exception) -> str:
    """Why a handshake failed, as a sentence about the peer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Its certificate is not trusted: {error.verify_message}."
    if isinstance(error, TimeoutError):
        return f"It did not complete the TLS handshake within {HANDSHAKE_SECONDS:g} s."
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "It ended the connection during the TLS handshake."
    reason = getattr(error, "reason", None)
    if reason in _REASONS:
        return _REASONS[reason]
    return f"The TLS handshake failed ({reason or type(error).__name__})."
