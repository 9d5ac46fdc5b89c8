"""Places that lapse, and the diffs that a cycle must have to end when its time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """See `schema.py` for what these mean. Places given before this have lapsed, and are as good as any."""
    op.add_column("cycles", sa.Column("needed", sa.Integer, nullable=False, server_default="1"))
    op.add_column("assignments", sa.Column("lapses_at", sa.Float, nullable=False, server_default="0"))
    op.create_index("assignments_of_cycle", "assignments", ["cycle_id"])
