"""When it is a job's turn, and who sent what it takes in. What is queued already keeps its order."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("sender", sa.String(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("turn", _TIME, nullable=False, server_default="1970-01-01 00:00:00"))
    earlier = "created_at - priority * INTERVAL '1 minute'"
    if op.get_bind().dialect.name == "sqlite":
        earlier = "strftime('%Y-%m-%d %H:%M:%f000', created_at, -priority || ' minutes')"
    op.execute(f"UPDATE jobs SET turn = {earlier}")
    op.drop_index("ix_jobs_claim", "jobs")
    op.create_index("ix_jobs_turn", "jobs", ["state", "turn", "id"])
    op.create_index("ix_jobs_sender", "jobs", ["state", "route", "sender", "turn"])
