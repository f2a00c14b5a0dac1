"""What this node fetches from archives: what was asked for, of whom, and what became of it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "fetches",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("archive", sa.String(), nullable=False),
        sa.Column("modalities", sa.JSON(), nullable=False),
        sa.Column("archive_ae", sa.String(), nullable=False),
        sa.Column("calling_ae", sa.String(), nullable=False),
        sa.Column("series", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_fetches"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_fetches_study_instance_uid", "fetches", ["study_instance_uid"])
    op.create_index("ix_fetches_claim", "fetches", ["state", "not_before"])
