"""What is deleted and what is not, and when each object was last compared with its digest."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("objects", sa.Column("verified_at", _TIME, nullable=False, server_default="1970-01-01 00:00:00"))
    op.add_column("objects", sa.Column("damage", sa.String(16), nullable=True))
    op.execute("UPDATE objects SET verified_at = received_at")
    op.create_index("ix_objects_verified_at", "objects", ["verified_at"])
    op.create_table(
        "files_to_remove",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_files_to_remove"),
    )
    op.create_table(
        "legal_holds",
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("placed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_legal_holds"),
    )
