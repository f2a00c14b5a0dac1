"""The catalogue of what is held, for queries; a node enters what was kept before when it starts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "catalogue_studies",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("patient_id", _PLAIN, nullable=False),
        sa.Column("patient_name", _PLAIN, nullable=False),
        sa.Column("study_date", _PLAIN, nullable=False),
        sa.Column("accession_number", _PLAIN, nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_studies"),
        sa.UniqueConstraint("study_instance_uid", name="uq_catalogue_studies_study_instance_uid"),
        sqlite_autoincrement=True,
    )
    for column in ("patient_id", "patient_name", "study_date", "accession_number"):
        op.create_index(f"ix_catalogue_studies_{column}", "catalogue_studies", [column])
    op.create_table(
        "catalogue_series",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("study_id", _NUMBER, nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_series"),
        sa.ForeignKeyConstraint(["study_id"], ["catalogue_studies.id"], name="fk_catalogue_series_study_id"),
        sa.UniqueConstraint("study_id", "series_instance_uid", name="uq_catalogue_series_study_id_series_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_catalogue_series_series_instance_uid", "catalogue_series", ["series_instance_uid"])
    op.create_table(
        "catalogue_objects",
        sa.Column("object_id", _NUMBER, nullable=False),
        sa.Column("series_id", _NUMBER, nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name="pk_catalogue_objects"),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_catalogue_objects_object_id"),
        sa.ForeignKeyConstraint(["series_id"], ["catalogue_series.id"], name="fk_catalogue_objects_series_id"),
    )
    op.create_index("ix_catalogue_objects_series_id", "catalogue_objects", ["series_id"])
