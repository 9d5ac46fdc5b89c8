"""Leases of assignments, and the number of diffs with which a cycle ends when its time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, which `schema.py` describes. Existing assignments count as expired and stay valid."""
    op.add_column("cycles", sa.Column("needed", sa.Integer, nullable=False, server_default="1"))
    op.add_column("assignments", sa.Column("lapses_at", sa.Float, nullable=False, server_default="0"))
    op.create_index("assignments_of_cycle", "assignments", ["cycle_id"])
