"""The settings of a node: one TOML file, overruled key by key by the environment.

`FULLFIELD__LISTENER__PORT=11113` overrules `port` in the table `[listener]`. Relative paths are relative to
the folder of the settings file, or to the working directory when there is none.
"""

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from config.errors import ConfigError
from config.listener import ListenerSettings
from config.mistakes import config_error, did_you_mean, place_in, read_toml
from config.network import AddressRange, AETitle, Host, Port
from config.retention import RetentionSettings
from config.section import Section
from config.toml_lines import KeyPath

ENVIRONMENT_PREFIX = "FULLFIELD__"
_SQLITE_FILE = "sqlite:///"
_SHORTEST_TOKEN = 16


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or any(not c.isprintable() or c in " ," for c in token):
        raise ValueError(f"must be at least {_SHORTEST_TOKEN} printable ASCII characters without blanks and commas")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s*]+", value):
        raise ValueError(f"must be an origin such as 'https://viewer.example.org', not {value!r}")
    return value


def is_loopback(host: str) -> bool:
    """Whether who listens on this address is reached from its own machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _database_url(value: str) -> str:
    # The value may hold a password: the sentence does not repeat it.
    if not value.startswith((_SQLITE_FILE, "postgresql://", "postgresql+psycopg://")):
        raise ValueError("must be a URL that starts with 'sqlite:///' or 'postgresql://'")
    return value


class TLSSettings(Section):
    """TLS for associations, those that peers open and those that this node opens (PS3.15 B.12).

    Both sides show a certificate, always. The node reads the files again on SIGHUP.
    """

    certificate: Path | None = Field(
        default=None,
        description="PEM file of this node's certificate, followed by those that lead to its authority. Unset: no TLS.",
    )
    key: Path | None = Field(
        default=None,
        description="PEM file of its private key, not encrypted; unset: it stands in the certificate's file.",
    )
    authorities: Path | None = Field(
        default=None,
        description="PEM file of the certificates that peers' are trusted by: of authorities, or of single peers.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.authorities is None):
            raise ValueError("needs both `certificate` and `authorities`, for both sides show a certificate")
        return self


class AllowedWebClient(Section):
    """A client that may use DICOMweb."""

    ae_title: AETitle = Field(
        description="Its name in the audit trail and for routes, as if it were a calling AE title; with HTTP Basic "
        "authentication the user name."
    )
    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None,
        description="What it has to show: a bearer token, or the password of HTTP Basic authentication; unset: "
        "nothing, which only a node allows that is reached from its own machine alone.",
    )
    addresses: tuple[AddressRange, ...] = Field(
        default=(),
        description="IP addresses or networks (`10.1.2.0/24`) it may call from; empty: any.",
    )


class WebSettings(Section):
    """DICOMweb (STOW-RS, QIDO-RS and WADO-RS) at `http://HOST:PORT/dicom-web`.

    Health and metrics are at `/live`, `/ready` and `/metrics`.
    """

    host: Host = Field(default="127.0.0.1", description="Address to listen on; `0.0.0.0` for every network interface.")
    port: Port | None = Field(default=None, description="TCP port to listen on; unset: there is no DICOMweb.")
    allow: tuple[AllowedWebClient, ...] = Field(
        default=(),
        description="Clients that may call, one `[[web.allow]]` each; empty: whoever is on this machine.",
    )
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(),
        description="Web pages of other servers that may call from a browser (CORS), as `https://viewer.example.org`.",
    )

    @model_validator(mode="after")
    def _knows_who_calls(self) -> "WebSettings":
        open_to_others = self.port is not None and not is_loopback(self.host)
        if open_to_others and not (self.allow and all(client.token for client in self.allow)):
            raise ValueError(
                f"listens on {self.host}, which other machines reach: it must have at least one [[web.allow]], "
                "each with a token"
            )
        return self


class StorageSettings(Section):
    """Where received objects, results and the state of all work are kept."""

    root: Path = Field(default=Path("var"), description="Folder of the object store and of the embedded database.")
    database: Annotated[str, AfterValidator(_database_url)] | None = Field(
        default=None,
        description="Database URL: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`; "
        "unset: `fullfield.db` in `root`.",
    )
    full_below_mb: int = Field(
        default=1024,
        ge=0,
        description="Free space in MB below which nothing is received (0xA700) and no result is made.",
    )
    low_below_mb: int | None = Field(
        default=None,
        ge=0,
        description="Free space in MB below which the node warns, and makes room where `[storage.retention]` lets it; "
        "unset: five times `full_below_mb`.",
    )
    scrub_days: float = Field(
        default=30, gt=0, description="Days within which every object is read again and compared with its digest."
    )
    retention: RetentionSettings = Field(default=RetentionSettings(), description=RetentionSettings.__doc__)

    @model_validator(mode="after")
    def _is_low_before_it_is_full(self) -> Self:
        if self.low_below_mb is not None and self.low_below_mb < self.full_below_mb:
            raise ValueError("has a `low_below_mb` below its `full_below_mb`")
        return self

    @property
    def low_mb(self) -> int:
        """The low watermark in use."""
        return 5 * self.full_below_mb if self.low_below_mb is None else self.low_below_mb

    @property
    def database_url(self) -> str:
        """The database in use: `database`, or SQLite in `root`."""
        return self.database or f"{_SQLITE_FILE}{self.root / 'fullfield.db'}"


class WorkerSettings(Section):
    """Workers: the processes that reconstruct."""

    processes: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Workers that the node starts itself; 0 when they run elsewhere with `fullfield worker`.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; `auto` takes a GPU when there is one."
    )
    lease_seconds: float = Field(
        default=60,
        ge=1,
        description="Silence after which a worker counts as dead and its job goes to another.",
    )
    job_minutes: float = Field(
        default=240,
        gt=0,
        description="Time that an attempt at a job may take. One that takes longer is broken off with its worker's "
        "process, in whose place another starts; the job is tried again, and ends `failed` after its last attempt.",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=512,
        description="Main memory in MB that a worker may take; a job with which it takes more is broken off likewise. "
        "Without a job it takes some 400 MB. Unset: three quarters of the machine's.",
    )
    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts after which a job ends `failed`.")
    retry_wait_seconds: float = Field(
        default=10,
        ge=0,
        description="Wait before the second attempt of a job; doubles with each further one.",
    )
    poll_seconds: float = Field(default=0.5, gt=0, le=60, description="How often an idle worker looks for a job.")


class DeliverySettings(Section):
    """Sending results to their destinations, and reports on storage commitment to those who asked."""

    first_wait_seconds: float = Field(
        default=5,
        gt=0,
        description="Wait after the first failure; it doubles, with jitter, after each further one.",
    )
    longest_wait_seconds: float = Field(default=3600, gt=0, description="Longest wait between two tries.")
    give_up_after_hours: float = Field(
        default=168, gt=0, description="Time after which a delivery is abandoned and its job ends `failed`."
    )
    timeout_seconds: float = Field(
        default=30, gt=0, description="How long to wait for a destination to connect or to answer."
    )
    poll_seconds: float = Field(default=0.5, gt=0, le=60, description="How often to look for results to send.")
    commitment_wait_hours: float = Field(
        default=6,
        gt=0,
        description="How long to wait for the report of a destination that was asked for storage commitment, before it "
        "is asked again.",
    )
    commitment_give_up_hours: float = Field(
        default=72,
        gt=0,
        description="Time after which a destination is asked for storage commitment no more; "
        "the job stays `delivered`.",
    )


class LogSettings(Section):
    """The log, written to standard error. It holds no patient data and UIDs only hashed."""

    format: Literal["console", "json"] = Field(
        default="console", description="`console` for people, `json` for one JSON object a line."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important level that is written."
    )


class Settings(BaseSettings):
    """Everything an administrator sets for one node, routes aside."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    listener: ListenerSettings = Field(default=ListenerSettings(), description=ListenerSettings.__doc__)
    tls: TLSSettings = Field(default=TLSSettings(), description=TLSSettings.__doc__)
    web: WebSettings = Field(default=WebSettings(), description=WebSettings.__doc__)
    storage: StorageSettings = Field(default=StorageSettings(), description=StorageSettings.__doc__)
    worker: WorkerSettings = Field(default=WorkerSettings(), description=WorkerSettings.__doc__)
    delivery: DeliverySettings = Field(default=DeliverySettings(), description=DeliverySettings.__doc__)
    logs: LogSettings = Field(default=LogSettings(), description=LogSettings.__doc__)
    routes: Path = Field(default=Path("routes.toml"), description="File of routes and destinations.")

    @model_validator(mode="after")
    def _agrees_within(self) -> Self:
        listener = self.listener
        allowed = [peer for title in listener.every_title for peer in title.allow]
        named = any(peer.certificate is not None for peer in allowed)
        if self.tls.certificate is None and (listener.tls_port is not None or named):
            raise ValueError("asks for TLS in `[listener]`, but sets no `tls.certificate`")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, whose values come as arguments; nothing else."""
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """The settings in `path`, or the defaults when it is None, under what the environment says.

    Raises ConfigError: one sentence a mistake, with file and line or environment variable, key, and what is
    allowed.
    """
    text, values = read_toml(path) if path is not None else ("", {})
    _refuse_unknown_variables()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        file_place = place_in(path, text) if path is not None else lambda _: "settings"
        raise config_error(error, Settings, place_of=lambda key: _variable_of(key) or file_place(key)) from error
    except SettingsError as error:
        raise ConfigError(_broken_json(error)) from error
    return _with_paths_from((path.parent if path is not None else Path()).absolute(), settings)


def _with_paths_from(folder: Path, settings: Settings) -> Settings:
    storage = settings.storage
    moved: dict[str, Any] = {"root": folder / storage.root}
    if storage.database is not None and storage.database.startswith(_SQLITE_FILE):
        moved["database"] = _SQLITE_FILE + str(folder / storage.database.removeprefix(_SQLITE_FILE))
    files = {name: folder / file for name, file in settings.tls if file is not None}
    return settings.model_copy(
        update={
            "storage": storage.model_copy(update=moved),
            "tls": settings.tls.model_copy(update=files),
            "routes": folder / settings.routes,
        }
    )


def _refuse_unknown_variables() -> None:
    """pydantic-settings passes over a variable whose table it does not know; a typing error must not pass."""
    for name in os.environ:
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        section = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")[0]
        if section not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name}: {section!r} is not a known key"
                f"{did_you_mean(section, Settings.model_fields)}."
            )


def _broken_json(error: SettingsError) -> str:
    """pydantic-settings names the table only; the variable in it is found again."""
    for name, value in os.environ.items():
        if name.upper().startswith(ENVIRONMENT_PREFIX) and value.lstrip().startswith(("[", "{")):
            try:
                json.loads(value)
            except ValueError as fault:
                return f"environment variable {name}: is not valid JSON: {fault}."
    return f"environment: {error}; a list or a table is written as JSON."


def _variable_of(key: KeyPath) -> str | None:
    """``environment variable FULLFIELD__A__B`` when that is what set `key`."""
    names = {name.upper(): name for name in os.environ}
    for length in range(len(key), 0, -1):
        wanted = ENVIRONMENT_PREFIX + "__".join(str(part) for part in key[:length]).upper()
        if wanted in names:
            return f"environment variable {names[wanted]}"
    return None
