"""When a cycle opens that waits for the orchestrator."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; existing cycles are open."""
    op.add_column("cycles", sa.Column("opens_at", sa.Float))
