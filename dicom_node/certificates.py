"""The certificates of a node, read for people: whose they are, how long they are valid, and who signed them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from config.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate of a file."""

    #: Its common name, or its whole subject where it has none.
    name: str
    #: The same of who signed it.
    issuer: str
    valid_from: datetime
    valid_until: datetime
    signed: x509.Certificate = field(repr=False)

    def is_issued_by(self, other: "Certificate") -> bool:
        """Whether the key of the other certificate has signed this one."""
        try:
            self.signed.verify_directly_issued_by(other.signed)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def certificates_in(file: Path) -> list[Certificate]:
    """The certificates in a PEM file, in its order; raises ConfigError."""
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} holds no certificate in PEM.") from error
    return [
        Certificate(
            name=_name(one.subject),
            issuer=_name(one.issuer),
            valid_from=one.not_valid_before_utc,
            valid_until=one.not_valid_after_utc,
            signed=one,
        )
        for one in found
    ]


def unknown_issuer(chain: Sequence[Certificate], authorities: Sequence[Certificate]) -> str | None:
    """Who is missing on the way from the first certificate of a chain to an authority; None if nobody is.

    Each certificate of the chain is to be followed by that of its issuer (RFC 8446 4.4.2).
    """
    for certificate, next_one in pairwise(chain):
        if not certificate.is_issued_by(next_one):
            return certificate.issuer
    last = chain[-1]
    return None if any(last.is_issued_by(one) for one in (last, *authorities)) else last.issuer


def _name(subject: x509.Name) -> str:
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else subject.rfc4514_string()
