"""Blobs in parts: a large model is written and read piece by piece."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# The columns that hold packed blobs: another compression by PostgreSQL would cost time and gain nothing.
_PACKED = {
    "checkpoints": ("body",),
    "checkpoint_parts": ("body",),
    "diffs": ("body",),
    "diff_parts": ("body",),
    "plans": ("torchscript", "tfjs", "list"),
}


def upgrade() -> None:
    """See `schema.py` for what these mean."""
    op.create_table(
        "checkpoint_parts",
        sa.Column("process_id", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["process_id", "number"], ["checkpoints.process_id", "checkpoints.number"]),
    )
    op.create_table(
        "diff_parts",
        sa.Column("diff_id", sa.Integer, sa.ForeignKey("diffs.id"), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in _PACKED.items():
            for column in columns:
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
