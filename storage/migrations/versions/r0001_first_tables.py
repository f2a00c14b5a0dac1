"""The first tables, and the triggers that keep the audit trail as it was written."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_STATE = sa.String(16)
_DIGEST = sa.String(64)


def upgrade() -> None:
    _create_jobs()
    _create_objects()
    _create_series()
    _create_deliveries()
    _create_audit()
    if op.get_bind().dialect.name == "sqlite":
        _protect_audit_on_sqlite()
    else:
        _protect_audit_on_postgresql()


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("model_digest", _DIGEST, nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_claim", "jobs", ["state", "priority", "created_at"])
    op.create_index("ix_jobs_study_instance_uid", "jobs", ["study_instance_uid"])


def _create_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("sop_class_uid", sa.String(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kind", _STATE, nullable=False),
        sa.Column("calling_ae", sa.String(), nullable=False),
        sa.Column("called_ae", sa.String(), nullable=False),
        sa.Column("peer_address", sa.String(), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("job_id", _NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_objects"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_objects_job_id"),
        sa.UniqueConstraint("sop_instance_uid", "digest", name="uq_objects_sop_instance_uid_digest"),
        sqlite_autoincrement=True,
    )
    for column in ("study_instance_uid", "series_instance_uid", "digest", "job_id"):
        op.create_index(f"ix_objects_{column}", "objects", [column])
    op.create_index(
        "uq_objects_sop_instance_uid_not_aside",
        "objects",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("kind != 'aside'"),
        postgresql_where=sa.text("kind != 'aside'"),
    )


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=True),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("last_received_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("series_instance_uid", name="pk_series"),
    )
    op.create_index("ix_series_state_due_at", "series", ["state", "due_at"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("job_id", _NUMBER, nullable=False),
        sa.Column("object_id", _NUMBER, nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("acknowledged_at", _TIME, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_deliveries_job_id"),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_deliveries_object_id"),
        sa.UniqueConstraint("object_id", "destination", name="uq_deliveries_object_id_destination"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_claim", "deliveries", ["state", "not_before"])
    op.create_index("ix_deliveries_job_id", "deliveries", ["job_id"])


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("peer_ae", sa.String(), nullable=True),
        sa.Column("peer_address", sa.String(), nullable=True),
        sa.Column("study_instance_uid", sa.String(), nullable=True),
        sa.Column("series_instance_uid", sa.String(), nullable=True),
        sa.Column("sop_instance_uid", sa.String(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("model_digest", sa.String(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("previous_hash", _DIGEST, nullable=False),
        sa.Column("hash", _DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_study_instance_uid", "audit", ["study_instance_uid"])
    op.create_index("ix_audit_job_id", "audit", ["job_id"])


def _protect_audit_on_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
            f"BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )


def _protect_audit_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
    )
    for verb in ("UPDATE", "DELETE", "TRUNCATE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
            f"FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
