"""The certificates of a node, read for people: whose they are, and how long they are valid."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from config.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate of a file."""

    #: Its common name, or its whole subject where it has none.
    name: str
    valid_from: datetime
    valid_until: datetime


def certificates_in(file: Path) -> list[Certificate]:
    """The certificates in a PEM file, in its order; raises ConfigError."""
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} holds no certificate in PEM.") from error
    return [
        Certificate(name=_name(one.subject), valid_from=one.not_valid_before_utc, valid_until=one.not_valid_after_utc)
        for one in found
    ]


def _name(subject: x509.Name) -> str:
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else subject.rfc4514_string()
