"""Performed procedure steps, and what ended ones have announced and has not arrived."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "procedure_steps",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("calling_ae", sa.String(), nullable=False),
        sa.Column("called_ae", sa.String(), nullable=False),
        sa.Column("peer_address", sa.String(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_procedure_steps"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_procedure_steps_sop_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_procedure_steps_study_instance_uid", "procedure_steps", ["study_instance_uid"])
    op.create_table(
        "awaited_objects",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("procedure_step_id", _NUMBER, nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_awaited_objects"),
        sa.ForeignKeyConstraint(
            ["procedure_step_id"], ["procedure_steps.id"], name="fk_awaited_objects_procedure_step_id"
        ),
        sa.UniqueConstraint(
            "series_instance_uid",
            "sop_instance_uid",
            "procedure_step_id",
            name="uq_awaited_objects_announced",
        ),
        sqlite_autoincrement=True,
    )
