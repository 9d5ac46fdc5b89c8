"""First tables: those that the node made before it had migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """See `schema.py` for what these mean."""
    op.create_table(
        "processes",
        _id(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("client_config", sa.Text, nullable=False),
        sa.Column("server_config", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("averaging_plan", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("name", "version"),
    )
    op.create_table(
        "plans",
        _id(),
        _process_id(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("torchscript", sa.LargeBinary, nullable=False),
        sa.Column("tfjs", sa.LargeBinary, nullable=False),
        sa.Column("list", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("process_id", "name"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("process_id", sa.Integer, sa.ForeignKey("processes.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table("outbox", _id(), _process_id(), sa.Column("body", sa.Text, nullable=False))
    _create_cycles()


def _create_cycles() -> None:
    op.create_table(
        "cycles",
        _id(),
        _process_id(),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("counted", sa.Integer, nullable=False),
        sa.Column("closed_at", sa.Float),
        sa.UniqueConstraint("process_id", "number"),
    )
    op.create_table("workers", sa.Column("id", sa.Text, primary_key=True), _process_id())
    op.create_table(
        "assignments",
        _id(),
        sa.Column("worker_id", sa.Text, sa.ForeignKey("workers.id"), nullable=False),
        sa.Column("cycle_id", sa.Integer, sa.ForeignKey("cycles.id"), nullable=False),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("reported_at", sa.Float),
        sa.UniqueConstraint("worker_id", "cycle_id"),
    )
    op.create_table(
        "diffs",
        _id(),
        sa.Column("cycle_id", sa.Integer, sa.ForeignKey("cycles.id"), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("diffs_of_cycle", "diffs", ["cycle_id"])


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _process_id() -> sa.Column[int]:
    return sa.Column("process_id", sa.Integer, sa.ForeignKey("processes.id"), nullable=False)
