"""Certificates for the tests: an authority, and what it signs.

authority = Authority(tmp_path, "Hospital")
carm = authority.issue("carm1.hospital")           carm.certificate, carm.key: PEM files
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from config.settings import TLSSettings


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for systems; by: the authority above it."""

    def __init__(self, folder: Path, name: str, by: "Authority | None" = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        ends = datetime.now(UTC) + timedelta(days=3650)
        usage = x509.BasicConstraints(ca=True, path_length=None)
        above = by or self
        builder = _builder(self._name, above._name, self._key.public_key(), ends).add_extension(usage, critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(builder.sign(above._key, hashes.SHA256())))

    def issue(self, *names: str, days: float = 365, rsa_bits: int = 0) -> Issued:
        """A certificate of a system: the first name as common name, all of them as alternative names.

        days: that it is valid for, from now on; below 0 it has expired. rsa_bits: 0 for an elliptic curve.
        """
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(names[0]), self._name, key.public_key(), datetime.now(UTC) + timedelta(days=days))
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
        stem = f"{names[0]}-{len(list(self._folder.iterdir()))}"
        issued = Issued(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        issued.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        issued.key.chmod(0o600)
        return issued

    def dcmtk(self, issued: Issued | None) -> list[str]:
        """Options with which dcmtk shows a certificate, or none, and trusts this authority."""
        shown = ["+tls", str(issued.key), str(issued.certificate)] if issued is not None else ["+tla"]
        return [*shown, "+cf", str(self.file)]

    def openssl(self, issued: Issued | None) -> list[str]:
        """Options with which openssl does, or without a certificate of its own."""
        shown = ["-cert", str(issued.certificate), "-key", str(issued.key)] if issued is not None else []
        return [*shown, "-CAfile", str(self.file), "-verify_return_error"]

    def settings(self, issued: Issued) -> TLSSettings:
        """The settings of a node that shows a certificate and trusts this authority."""
        return TLSSettings(certificate=issued.certificate, key=issued.key, authorities=self.file)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, ends: datetime
) -> x509.CertificateBuilder:
    begins = min(datetime.now(UTC), ends) - timedelta(days=1)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=begins,
        not_valid_after=ends,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
