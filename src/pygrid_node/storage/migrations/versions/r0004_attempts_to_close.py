"""How often the closing of a cycle was attempted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; no attempt of an open cycle is known."""
    op.add_column("cycles", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
