"""The tables, with types that SQLite and PostgreSQL share. A hosted model is a row of `processes`."""

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()


def _process_id() -> Column[int]:
    return Column("process_id", ForeignKey("processes.id"), nullable=False)


processes = Table(
    "processes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("client_config", Text, nullable=False),  # JSON, sent to workers unchanged
    Column("server_config", Text, nullable=False),  # JSON
    Column("parameters", Text, nullable=False),  # JSON: [[dtype, [dimension, ...]], ...]
    Column("averaging_plan", LargeBinary, nullable=False),  # empty: the mean
    UniqueConstraint("name", "version"),
)

# One column per form, named after the value of `receive_operations_as`.
plans = Table(
    "plans",
    metadata,
    Column("id", Integer, primary_key=True),
    _process_id(),
    Column("name", Text, nullable=False),
    Column("torchscript", LargeBinary, nullable=False),
    Column("tfjs", LargeBinary, nullable=False),
    Column("list", LargeBinary, nullable=False),
    UniqueConstraint("process_id", "name"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("process_id", ForeignKey("processes.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# The parts of a checkpoint after the first one, which is in its own row; see `blobs.py`.
checkpoint_parts = Table(
    "checkpoint_parts",
    metadata,
    Column("process_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),  # from 1
    Column("body", LargeBinary, nullable=False),
    ForeignKeyConstraint(["process_id", "number"], ["checkpoints.process_id", "checkpoints.number"]),
)

cycles = Table(
    "cycles",
    metadata,
    Column("id", Integer, primary_key=True),
    _process_id(),
    Column("number", Integer, nullable=False),
    Column("ends_at", Float, nullable=False),  # seconds since the epoch, as every time here
    Column("wanted", Integer, nullable=False),
    Column("needed", Integer, nullable=False, server_default="1"),  # enough when its time is over
    Column("counted", Integer, nullable=False),
    Column("closed_at", Float),
    Column("attempts", Integer, nullable=False, server_default="0"),  # to close it
    Column("opens_at", Float),  # the latest time; NULL: open
    UniqueConstraint("process_id", "number"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    _process_id(),
)

assignments = Table(
    "assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("worker_id", ForeignKey("workers.id"), nullable=False),
    Column("cycle_id", ForeignKey("cycles.id"), nullable=False),
    Column("request_key", Text, nullable=False),
    Column("lapses_at", Float, nullable=False, server_default="0"),  # when the lease expires
    Column("reported_at", Float),
    UniqueConstraint("worker_id", "cycle_id"),
    Index("assignments_of_cycle", "cycle_id"),
)

diffs = Table(
    "diffs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cycle_id", ForeignKey("cycles.id"), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("diffs_of_cycle", "cycle_id"),
)

# Like `checkpoint_parts`.
diff_parts = Table(
    "diff_parts",
    metadata,
    Column("diff_id", ForeignKey("diffs.id"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    _process_id(),
    Column("body", Text, nullable=False),  # the JSON that is sent
)
