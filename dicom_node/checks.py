"""What a node needs to run, each looked at by itself, and how to mend what is amiss.

A check changes nothing but for the file that it writes and removes to see whether the disk can be written to.
"""

import errno
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from config.errors import ConfigError, FullfieldError, PeerRefused, PeerUnavailable
from config.listener import ListenerSettings
from config.routes import Destination, RouteTable
from config.settings import Settings, StorageSettings, TLSSettings
from storage.database import Database, current_time
from storage.schema import AuditRow, StoredObject

if TYPE_CHECKING:
    from dicom_node.certificates import Certificate
    from dicom_node.network.tls import Credentials

#: No machine that runs this version has an earlier time.
_RELEASED = datetime(2025, 1, 1, tzinfo=UTC)
#: Clocks of two machines that differ by more than this confuse whoever compares their times.
_CLOCKS_AGREE = timedelta(seconds=5)
#: The scrubber is late when an object was not read for so many times its period.
_LATE = 1.5
#: A certificate is renewed before so little is left of it.
_RENEWED_BY_THEN = timedelta(days=30)
#: Seconds to wait for a peer, at most: someone is watching.
_PATIENCE = 10.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Level(StrEnum):
    """How a check came out."""

    OK = "OK"
    #: It runs, and somebody should look at it.
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    level: Level
    #: What was looked at, such as ``disk``.
    about: str
    said: str
    #: What a person can do about it; empty if nothing is to be done.
    mend: str = ""


def check_listener(settings: ListenerSettings, credentials: "Credentials | None" = None) -> Iterator[Finding]:
    """Whether each port is free, or held by a node of this AE title."""
    if settings.port:
        yield _check_port(settings, settings.port, None)
    if settings.tls_port is not None and credentials is not None:
        yield _check_port(settings, settings.tls_port, credentials)


def check_certificates(settings: TLSSettings, now: datetime | None = None) -> Iterator[Finding]:
    """Whether the certificates can be used, for how long, and by whom; nothing where there is to be no TLS."""
    if settings.certificate is None or settings.authorities is None:
        return
    from dicom_node.certificates import certificates_in, unknown_issuer
    from dicom_node.network.tls import credentials_of

    now = now or datetime.now(UTC)
    key = settings.key or settings.certificate
    try:
        credentials_of(settings)
        chain, authorities = certificates_in(settings.certificate), certificates_in(settings.authorities)
    except ConfigError as error:
        yield Finding(Level.FAIL, "tls", str(error), "Correct `[tls]` in the settings, or the files that it names.")
        return
    for certificate in chain:
        yield _check_validity(certificate, "certificate", settings.certificate, now)
    for certificate in authorities:
        yield _check_validity(certificate, "authority", settings.authorities, now)
    missing = unknown_issuer(chain, authorities)
    if missing is not None:
        file = settings.certificate
        said = f"{file} does not lead to one of {settings.authorities}: the certificate of {missing} is missing."
        mend = f"Put it into {file}, below the one that it signed; else only peers that have it trust this node."
        yield Finding(Level.WARN, "certificate", said, mend)
    if key.stat().st_mode & 0o077:
        said = f"{key} can be read by others than its owner."
        yield Finding(Level.WARN, "tls", said, f"`chmod 600 {key}`, as the user that runs the node.")


def check_database(storage: StorageSettings) -> Finding:
    """Whether the database can be reached and has the schema of this version."""
    file = storage.database_url.removeprefix("sqlite:///")
    if file != storage.database_url and not Path(file).exists():
        return Finding(Level.OK, "database", f"{file} is not there yet; the node makes it at its first start.")
    try:
        database = Database(storage.database_url, lock_timeout_seconds=_PATIENCE)
        try:
            revision = database.check()
        finally:
            database.close()
    except ConfigError as error:
        return Finding(Level.FAIL, "database", str(error), "Do as it says, and see `storage.database`.")
    except FullfieldError as error:
        return Finding(Level.FAIL, "database", str(error), "Start it, or correct `storage.database`.")
    return Finding(Level.OK, "database", f"{database.place} answers, schema {revision}.")


def check_disk(storage: StorageSettings) -> Iterator[Finding]:
    """Whether the object store can be written to, and has room."""
    # Before the first start the root is not there; it will be made in the nearest folder that is.
    folder = next(folder for folder in (storage.root, *storage.root.parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="doctor-") as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Finding(Level.OK, "data", f"{storage.root} can be written to.")
    except OSError as error:
        said = f"{folder} cannot be written to: {error.strerror}."
        yield Finding(Level.FAIL, "data", said, f"Give the user that runs the node the right to write to {folder}.")
    free = shutil.disk_usage(folder).free >> 20
    limit = storage.full_below_mb
    said = f"{free} MB are free at {folder}; below {limit} MB nothing is received."
    mend = "Make room, move `storage.root` to a larger disk, or have `[storage.retention]` delete what is delivered."
    if free < limit:
        yield Finding(Level.FAIL, "disk", said, mend)
    elif free < storage.low_mb:
        yield Finding(Level.WARN, "disk", said, mend)
    else:
        yield Finding(Level.OK, "disk", said)


def check_objects(storage: StorageSettings) -> Iterator[Finding]:
    """Whether the scrubber has found damage, and whether it keeps to its period; nothing where no database answers."""
    file = storage.database_url.removeprefix("sqlite:///")
    if file != storage.database_url and not Path(file).exists():
        return
    try:
        database = Database(storage.database_url, lock_timeout_seconds=_PATIENCE)
        try:
            database.check()
            with database.reading() as tx:
                now = current_time(tx)
                count, oldest = tx.execute(select(func.count(), func.min(StoredObject.verified_at))).one()
                damaged = tx.scalar(select(func.count()).where(StoredObject.damage.is_not(None))) or 0
        finally:
            database.close()
    except FullfieldError:
        # Another check tells of it.
        return
    if damaged:
        said = f"{damaged} of {count} objects are damaged or missing; `fullfield storage show` names them."
        yield Finding(Level.FAIL, "objects", said, "Have them sent again, or restore their files from a backup.")
    elif count and now - oldest > _LATE * timedelta(days=storage.scrub_days):
        said = f"Some of {count} objects were not compared with their digest for {(now - oldest).days} days."
        yield Finding(Level.WARN, "objects", said, "Have a node run, or run `fullfield storage verify`.")
    else:
        yield Finding(Level.OK, "objects", f"{count} are kept, none known to be damaged.")
    aside = sum(1 for _ in (storage.root / "quarantine").glob("*"))
    if aside:
        said = f"{aside} files lie in {storage.root / 'quarantine'}."
        yield Finding(Level.WARN, "quarantine", said, "See docs/how-to/keep-and-delete.md, and delete them when done.")


def check_weights(profile: str, models: Path | None = None) -> Finding:
    """Whether a profile's weights are installed and are what their card says; `models` as in `load_weights`."""
    # torch takes seconds to import, and only this needs it.
    from inference.weights import MODELS, load_weights

    try:
        weights = load_weights(profile, models or MODELS)
    except FullfieldError as error:
        mend = "Install Fullfield again, or correct `profile` in the routes."
        return Finding(Level.FAIL, f"weights {profile}", _as_sentence(error), mend)
    return Finding(Level.OK, f"weights {profile}", f"version {weights.version}, digest {weights.digest[:12]}.")


def check_device(device: str) -> Finding:
    """Where the workers of this machine would run."""
    import torch

    from inference.reconstruct import choose_device

    try:
        chosen = choose_device(device)
    except ConfigError as error:
        mend = "Install the driver and a torch build for it, or set `worker.device` to auto."
        return Finding(Level.FAIL, "device", _as_sentence(error), mend)
    name = torch.cuda.get_device_name() if chosen == "cuda" else f"{torch.get_num_threads()} threads"
    return Finding(Level.OK, "device", f"{chosen}, {name}.")


def check_destination(
    destination: Destination, calling_ae: str, timeout_seconds: float, credentials: "Credentials | None" = None
) -> Finding:
    """Whether a destination answers a C-ECHO, or a query by HTTP; calling_ae: this node's own title."""
    from dicom_node.network.sender import echo

    about = f"destination {destination.name}"
    if destination.url is not None:
        return _check_web_destination(destination, about, timeout_seconds, credentials)
    title = destination.calling_ae or calling_ae
    try:
        echo(destination, title, min(timeout_seconds, _PATIENCE), credentials)
    except PeerUnavailable as error:
        mend = "See whether it runs and no firewall is between; else correct host and port in the routes."
        if destination.tls:
            mend = f"{mend} For TLS, docs/how-to/tls.md says who has to trust whom."
        return Finding(Level.FAIL, about, str(error), mend)
    except PeerRefused as error:
        mend = f"Make {title} known there, with this machine's address; else correct `ae_title` in the routes."
        return Finding(Level.FAIL, about, str(error), mend)
    return Finding(Level.OK, about, f"{destination.ae_title} at {destination.host}:{destination.port} answers.")


def _check_web_destination(
    destination: Destination, about: str, timeout_seconds: float, credentials: "Credentials | None"
) -> Finding:
    from dicom_node.network.dicomweb.sender import ask_by_http

    try:
        ask_by_http(destination, min(timeout_seconds, _PATIENCE), credentials)
    except PeerUnavailable as error:
        mend = "See whether it runs and no firewall is between; else correct `url`, `user` and `token` in the routes."
        return Finding(Level.FAIL, about, str(error), mend)
    return Finding(Level.OK, about, f"{destination.url} answers.")


def check_reports(destination: Destination, listener: ListenerSettings) -> Iterator[Finding]:
    """Whether a destination that is asked for storage commitment is let in to report on it (PS3.4 J.3.3)."""
    if not destination.commitment:
        return
    called = destination.calling_ae or listener.ae_title
    title = listener.title(called)
    about = f"destination {destination.name}"
    if title is None:
        said = f"It is called by {called}, which is no AE title of this node: associations for its reports are refused."
        yield Finding(Level.WARN, about, said, f"Add {called} as a `[[listener.titles]]`.")
    elif title.allow and not any(allowed.ae_title == destination.ae_title for allowed in title.allow):
        said = f"{destination.ae_title} may not call {called}: associations for its reports are refused."
        yield Finding(Level.WARN, about, said, f"Add {destination.ae_title} to those that may call {called}.")


def check_clock(storage: StorageSettings, now: datetime | None = None) -> Iterator[Finding]:
    """Whether the time is plausible, and kept so by a time service."""
    now = now or datetime.now(UTC)
    mend = "Set the clock, and have a time service (NTP) keep it."
    told = f"It is {now.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    latest, by_database = _times_in(storage)
    if now < _RELEASED:
        yield Finding(Level.FAIL, "clock", f"{told}, which is before this version was made.", mend)
    elif latest is not None and now < latest - _CLOCKS_AGREE:
        said = f"{told}, but the audit trail tells of something at {latest.astimezone():%Y-%m-%d %H:%M:%S}."
        yield Finding(Level.FAIL, "clock", said, mend)
    elif by_database is not None and abs(now - by_database) > _CLOCKS_AGREE:
        apart = abs(now - by_database).total_seconds()
        yield Finding(Level.WARN, "clock", f"{told}, which is {apart:.0f} s off the database's clock.", mend)
    else:
        yield Finding(Level.OK, "clock", f"{told}.")
    synchronised = _synchronised()
    if synchronised is None:
        said = "Whether a time service keeps the clock cannot be told: neither systemd nor chrony answers."
        yield Finding(Level.WARN, "time service", said, "Run chrony here or, in a container, on its host.")
    elif synchronised:
        yield Finding(Level.OK, "time service", "It keeps the clock.")
    else:
        yield Finding(Level.WARN, "time service", "It does not keep the clock.", "`timedatectl set-ntp true`")


def check_all(settings: Settings, table: RouteTable | None) -> Iterator[Finding]:
    """Every check, one by one; table: the routes, None if they cannot be read."""
    from dicom_node.network.tls import credentials_of

    try:
        credentials = credentials_of(settings.tls)
    except ConfigError:
        # The check of certificates tells of it.
        credentials = None
    yield from check_listener(settings.listener, credentials)
    yield from check_certificates(settings.tls)
    yield check_database(settings.storage)
    yield from check_disk(settings.storage)
    yield from check_objects(settings.storage)
    routes = table.routes if table is not None else ()
    for profile in dict.fromkeys(route.profile for route in routes) or ["fullfield"]:
        yield check_weights(profile)
    yield check_device(settings.worker.device)
    for destination in table.destinations if table is not None else ():
        ae_title, timeout_seconds = settings.listener.ae_title, settings.delivery.timeout_seconds
        yield check_destination(destination, ae_title, timeout_seconds, credentials)
        yield from check_reports(destination, settings.listener)
    yield from check_clock(settings.storage)


def _check_port(settings: ListenerSettings, port: int, credentials: "Credentials | None") -> Finding:
    where = f"port {port} on {settings.host}{' (TLS)' if credentials is not None else ''}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # As the listener does: connections that have just ended do not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _holder(settings, port, where, credentials)
        mends = {
            errno.EACCES: "Use a port above 1023, or give the service the capability CAP_NET_BIND_SERVICE.",
            errno.EADDRNOTAVAIL: "Set `listener.host` to an address of this machine, or to 0.0.0.0 for all.",
        }
        said = f"{where} cannot be listened on: {error.strerror}."
        return Finding(Level.FAIL, "listener", said, mends.get(error.errno or 0, "Correct `listener.host`."))
    return Finding(Level.OK, "listener", f"{where} is free; no node runs here.")


def _check_validity(certificate: "Certificate", about: str, file: Path, now: datetime) -> Finding:
    left = certificate.valid_until - now
    whose = f"that of {certificate.name} in {file}"
    mend = "Have it renewed, put the new one into the file, and send the node SIGHUP."
    if certificate.valid_from > now:
        said = f"{whose} is not valid before {certificate.valid_from:%Y-%m-%d}."
        return Finding(Level.FAIL, about, said, "See whether the clock is right; else wait.")
    if left <= timedelta(0):
        return Finding(Level.FAIL, about, f"{whose} has expired on {certificate.valid_until:%Y-%m-%d}.", mend)
    if left < _RENEWED_BY_THEN:
        return Finding(Level.WARN, about, f"{whose} expires in {left.days} days.", mend)
    return Finding(Level.OK, about, f"{whose} is valid until {certificate.valid_until:%Y-%m-%d}.")


def _holder(settings: ListenerSettings, port: int, where: str, credentials: "Credentials | None") -> Finding:
    """Who holds our port: a node answers a C-ECHO under our title."""
    from dicom_node.network.sender import Address, echo

    host = _EVERYWHERE.get(settings.host, settings.host)
    name = credentials.name if credentials is not None else ""
    node = Address(settings.ae_title, host, port, tls=credentials is not None, certificate=name)
    mend = "End the other program, or choose a free port in `[listener]`."
    try:
        echo(node, settings.ae_title, _PATIENCE, credentials)
    except PeerRefused as error:
        if not settings.allow:
            return Finding(Level.FAIL, "listener", f"{where} is held by a DICOM system of another title.", mend)
        said = f"{where} is held by a DICOM system that does not let this check in. {error}"
        mend = f"If it is this node: add {settings.ae_title} to `[[listener.allow]]` to have it checked. {mend}"
        return Finding(Level.WARN, "listener", said, mend)
    except PeerUnavailable:
        return Finding(Level.FAIL, "listener", f"{where} is held by a program that is no such node.", mend)
    return Finding(Level.OK, "listener", f"{settings.ae_title} runs on {where}, and answers.")


def _times_in(storage: StorageSettings) -> tuple[datetime | None, datetime | None]:
    """When the newest audit row was written, and what the database says that it is; None where unknown."""
    file = storage.database_url.removeprefix("sqlite:///")
    if file != storage.database_url and not Path(file).exists():
        return None, None
    try:
        database = Database(storage.database_url, lock_timeout_seconds=_PATIENCE)
        try:
            database.check()
            with database.reading() as tx:
                return tx.scalar(select(func.max(AuditRow.at))), current_time(tx)
        finally:
            database.close()
    except FullfieldError:
        # Another check tells of it.
        return None, None


def _synchronised() -> bool | None:
    """Whether systemd or chrony says that a time service keeps the clock; None if neither says anything."""
    systemd = _answer("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if systemd in ("yes", "no"):
        return systemd == "yes"
    chrony = _answer("chronyc", "-n", "tracking")
    if chrony:
        # Else it is normal, or tells of a leap second at the end of the day.
        return "Not synchronised" not in chrony
    return None


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _as_sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."
