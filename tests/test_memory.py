"""A small version of what `bench/memory.py` measures."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "memory.py"
SLACK = 30  # MB: modules that are loaded late, buffers of TLS, arenas of threads


@pytest.mark.moto
def test_retrieval_needs_one_copy_of_one_model():
    """However many are due, whether S3 accepts them or not, and however small they are on the wire."""
    command = [sys.executable, BENCH, "retrieval", "--mb", "80", "--zeros", "10"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    rows = [line.split() for line in table.splitlines()[1:]]
    needed = {(row[0], row[4], int(row[3])): float(row[6]) - float(row[5]) for row in rows}
    stored = {(row[0], row[4], int(row[3])): int(row[8]) for row in rows}
    cases = [("models", 1), ("models", 3), ("refusing", 3), ("closing", 3)]

    assert list(needed) == [(dtype, *case) for dtype in ("float32", "int64") for case in cases]
    assert all(mb < 80 + SLACK for mb in needed.values())
    assert all(mb < 10 + SLACK for (dtype, _, _), mb in needed.items() if dtype == "int64")
    assert all(count == (due if bucket == "models" else 0) for (_, bucket, due), count in stored.items())
