"""Helpers for tests of the node."""

import time
from pathlib import Path


def wait_for(condition, seconds=20):
    """Return the first true value of a condition; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)
    return value


def memory(process, entry):
    """Return bytes of `VmRSS`, the memory in use, or of `VmHWM`, its maximum so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{entry}:")]
    return int(line.split()[1]) * 1024
