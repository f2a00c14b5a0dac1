"""Storage commitment that this node seeks for what it has sent; its requests outlive the node."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sought_commitments",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("job_id", _NUMBER, nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sought_commitments"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_sought_commitments_job_id"),
        sa.UniqueConstraint("transaction_uid", name="uq_sought_commitments_transaction_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sought_commitments_job_id", "sought_commitments", ["job_id"])
    op.create_index("ix_sought_commitments_claim", "sought_commitments", ["state", "not_before"])
