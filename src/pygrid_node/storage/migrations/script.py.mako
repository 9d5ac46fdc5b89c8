"""${message[:1].upper()}${message[1:]}."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """See `schema.py` for what these mean."""
    op.add_column("...", sa.Column("...", sa.Float))
