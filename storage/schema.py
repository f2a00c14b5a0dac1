"""The tables: what the database remembers."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.states import (
    CommitmentState,
    Damage,
    DeliveryState,
    FetchState,
    ObjectKind,
    ProcedureStepStatus,
    SeriesState,
    SoughtState,
)
from storage.transitions import JobState


class UtcTime(TypeDecorator[datetime]):
    """An aware time, in UTC on the way in and out, on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a time zone cannot be stored.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


#: 64 bits everywhere; SQLite numbers its rows only in a column declared INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")

#: Text in the order of its code points on every database, so that an index finds what begins alike.
Plain = String().with_variant(String(collation="C"), "postgresql")


def _state(states: type[StrEnum]) -> Enum:
    return Enum(states, native_enum=False, length=16, values_callable=lambda all_: [s.value for s in all_])


class Table(DeclarativeBase):
    """What all tables share: names of constraints that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- read by SQLAlchemy from the class
        datetime: UtcTime(),
        dict[str, Any]: JSON(),
        ObjectKind: _state(ObjectKind),
        Damage: _state(Damage),
        SeriesState: _state(SeriesState),
        DeliveryState: _state(DeliveryState),
        CommitmentState: _state(CommitmentState),
        SoughtState: _state(SoughtState),
        FetchState: _state(FetchState),
        ProcedureStepStatus: _state(ProcedureStepStatus),
        JobState: _state(JobState),
    }


class StoredObject(Table):
    """One DICOM object: what its header says, where its bytes are, and how it came here."""

    __tablename__ = "objects"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    series_instance_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    frames: Mapped[int]
    #: SHA-256 of the part-10 file, its name in the object store.
    digest: Mapped[str] = mapped_column(String(64), index=True)
    #: Bytes of the part-10 file.
    size: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[ObjectKind]
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    received_at: Mapped[datetime]
    #: The job that takes it in, or made it.
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    #: When its bytes were last compared with the digest; first when it was received.
    verified_at: Mapped[datetime] = mapped_column(index=True, server_default="1970-01-01 00:00:00")
    #: None if nothing is known to be wrong.
    damage: Mapped[Damage | None]

    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "digest"),
        Index(
            "uq_objects_sop_instance_uid_not_aside",
            "sop_instance_uid",
            unique=True,
            sqlite_where=text("kind != 'aside'"),
            postgresql_where=text("kind != 'aside'"),
        ),
        Index(
            "ix_objects_damage",
            "damage",
            sqlite_where=text("damage IS NOT NULL"),
            postgresql_where=text("damage IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )


class FileToRemove(Table):
    """A file whose last row was deleted, from that transaction on until it is removed."""

    __tablename__ = "files_to_remove"

    #: Its name in the object store.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[datetime]


class LegalHold(Table):
    """A study of which nothing is deleted, until a person lifts the hold."""

    __tablename__ = "legal_holds"

    study_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    #: Who has placed it.
    placed_by: Mapped[str]
    placed_at: Mapped[datetime]


class Series(Table):
    """A series on its way in."""

    __tablename__ = "series"

    series_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str]
    route: Mapped[str | None]
    state: Mapped[SeriesState]
    last_received_at: Mapped[datetime]
    #: When its quiet time ends; none if another rule completes it.
    due_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "state", "due_at"),)


class Job(Table):
    """One piece of work: the objects of a series that a route sends through a model."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    route: Mapped[str]
    profile: Mapped[str]
    mode: Mapped[str]
    #: AE title that sent its objects.
    sender: Mapped[str] = mapped_column(server_default="")
    series_instance_uid: Mapped[str]
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    state: Mapped[JobState]
    #: 0 to 100; the higher goes first.
    priority: Mapped[int]
    #: The job with the earliest goes first (storage/turns.py).
    turn: Mapped[datetime] = mapped_column(server_default="1970-01-01 00:00:00")
    #: How often a worker has taken it.
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    not_before: Mapped[datetime]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    #: Grows with each lease: a worker with an older one has lost the job.
    lease_token: Mapped[int]
    #: 0 to 1.
    progress: Mapped[float]
    reason: Mapped[str | None] = mapped_column(Text)
    model_digest: Mapped[str | None] = mapped_column(String(64))
    #: The route as it was when the job was queued.
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_jobs_turn", "state", "turn", "id"),
        Index("ix_jobs_sender", "state", "route", "sender", "turn"),
        {"sqlite_autoincrement": True},
    )


class Delivery(Table):
    """One result object on its way to one destination."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id"))
    #: Name of the destination in the route table.
    destination: Mapped[str]
    state: Mapped[DeliveryState]
    attempts: Mapped[int]
    not_before: Mapped[datetime]
    #: The DIMSE status that the destination answered last (PS3.7 C).
    last_status: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    acknowledged_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        Index("ix_deliveries_claim", "state", "not_before"),
        {"sqlite_autoincrement": True},
    )


class Commitment(Table):
    """A peer's request that objects be kept for it, and what became of the report (PS3.4 J.3)."""

    __tablename__ = "commitments"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    transaction_uid: Mapped[str]
    #: Who asked whom, from where, over which association.
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    association_id: Mapped[str]
    #: SOP Class UID and SOP Instance UID of each object, in the order of the request.
    items: Mapped[list[list[str]]] = mapped_column(JSON)
    #: Of the last report that was made: the Failure Reason of each SOP Instance UID that is not committed.
    failed: Mapped[dict[str, Any]]
    state: Mapped[CommitmentState]
    attempts: Mapped[int]
    not_before: Mapped[datetime]
    #: The DIMSE status that the peer answered last (PS3.7 C).
    last_status: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    #: When it was asked for, the last time.
    requested_at: Mapped[datetime]
    reported_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("calling_ae", "transaction_uid"),
        Index("ix_commitments_claim", "state", "not_before"),
        {"sqlite_autoincrement": True},
    )


class SoughtCommitment(Table):
    """This node's request that a destination commit to keep what a job has sent there (PS3.4 J.3)."""

    __tablename__ = "sought_commitments"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    #: Name of the destination in the route table.
    destination: Mapped[str]
    #: SOP Class UID and SOP Instance UID of each object.
    items: Mapped[list[list[str]]] = mapped_column(JSON)
    #: The Failure Reason of each SOP Instance UID that is not committed.
    failed: Mapped[dict[str, Any]]
    state: Mapped[SoughtState]
    attempts: Mapped[int]
    not_before: Mapped[datetime]
    #: The DIMSE status that the destination answered last (PS3.7 C).
    last_status: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    #: When commitment to these objects was sought first, maybe by a request before.
    since: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_sought_commitments_claim", "state", "not_before"),
        {"sqlite_autoincrement": True},
    )


class Fetch(Table):
    """That the other series of a job's study are fetched from an archive, or an original again (PS3.4 C.4.2)."""

    __tablename__ = "fetches"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    #: No foreign key: the row outlives what it tells of.
    job_id: Mapped[int] = mapped_column(BigInteger)
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    #: Name of the archive among the destinations of the route table.
    archive: Mapped[str]
    #: Modalities (0008,0060) of the series that are wanted.
    modalities: Mapped[list[str]] = mapped_column(JSON)
    #: The original that is to come again, for its file is damaged; None where other series are fetched.
    sop_instance_uid: Mapped[str | None] = mapped_column(index=True)
    #: AE titles of the archive and of the node, when it was asked last; empty before.
    archive_ae: Mapped[str]
    calling_ae: Mapped[str]
    #: Series Instance UIDs of what was asked for so far.
    series: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[FetchState]
    attempts: Mapped[int]
    not_before: Mapped[datetime]
    #: The DIMSE status that the archive answered last (PS3.4 C.4).
    last_status: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_fetches_claim", "state", "not_before"),
        {"sqlite_autoincrement": True},
    )


class ProcedureStep(Table):
    """What a modality has reported of a performed procedure step (PS3.4 F.7)."""

    __tablename__ = "procedure_steps"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(unique=True)
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    status: Mapped[ProcedureStepStatus]
    #: The data set, with all updates, in the DICOM JSON model (PS3.18 F).
    attributes: Mapped[dict[str, Any]]
    #: Who created it, at whom, from where.
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = ({"sqlite_autoincrement": True},)


class AwaitedObject(Table):
    """An object that an ended procedure step has announced, and that has not arrived."""

    __tablename__ = "awaited_objects"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    procedure_step_id: Mapped[int] = mapped_column(ForeignKey("procedure_steps.id"))
    series_instance_uid: Mapped[str]
    sop_instance_uid: Mapped[str]

    __table_args__ = (
        UniqueConstraint(
            "series_instance_uid", "sop_instance_uid", "procedure_step_id", name="uq_awaited_objects_announced"
        ),
        {"sqlite_autoincrement": True},
    )


class CataloguedStudy(Table):
    """What queries can ask of a patient's study; the columns are for finding it, in the form in which keys compare."""

    __tablename__ = "catalogue_studies"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(unique=True)
    patient_id: Mapped[str] = mapped_column(Plain, index=True)
    patient_name: Mapped[str] = mapped_column(Plain, index=True)
    study_date: Mapped[str] = mapped_column(Plain, index=True)
    accession_number: Mapped[str] = mapped_column(Plain, index=True)
    #: Of patient and study, in the DICOM JSON model.
    attributes: Mapped[dict[str, Any]]

    __table_args__ = ({"sqlite_autoincrement": True},)


class CataloguedSeries(Table):
    """What queries can ask of a series."""

    __tablename__ = "catalogue_series"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("catalogue_studies.id"))
    series_instance_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    attributes: Mapped[dict[str, Any]]

    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"), {"sqlite_autoincrement": True})


class CataloguedObject(Table):
    """What queries can ask of an object, beside what its own row says."""

    __tablename__ = "catalogue_objects"

    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id"), primary_key=True, autoincrement=False)
    series_id: Mapped[int] = mapped_column(ForeignKey("catalogue_series.id"), index=True)
    attributes: Mapped[dict[str, Any]]


class AuditRow(Table):
    """One step that was taken, chained to the row before by hash; never changed, never deleted."""

    __tablename__ = "audit"

    #: 1, 2, 3, ... without a gap.
    id: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    action: Mapped[str]
    outcome: Mapped[str]
    actor: Mapped[str]
    peer_ae: Mapped[str | None]
    peer_address: Mapped[str | None]
    study_instance_uid: Mapped[str | None] = mapped_column(index=True)
    series_instance_uid: Mapped[str | None]
    sop_instance_uid: Mapped[str | None]
    #: No foreign key: the row outlives what it tells of.
    job_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    model_digest: Mapped[str | None]
    details: Mapped[dict[str, Any]]
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
