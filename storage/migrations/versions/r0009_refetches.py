"""Originals whose file is damaged, and that are fetched again; damaged objects have an index."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fetches", sa.Column("sop_instance_uid", sa.String(), nullable=True))
    op.create_index("ix_fetches_sop_instance_uid", "fetches", ["sop_instance_uid"])
    damaged = sa.text("damage IS NOT NULL")
    op.create_index("ix_objects_damage", "objects", ["damage"], sqlite_where=damaged, postgresql_where=damaged)
