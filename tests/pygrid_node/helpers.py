"""Helpers for tests of the node."""

import time


def wait_for(condition, seconds=20):
    """Return the first true value of a condition; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)
    return value
