"""Back-off between attempts, and a schedule in memory."""

from threading import Lock

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0
"""Seconds between two attempts at an operation that failed."""

CAPACITY = 100_000


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 0, 30, 60, 120 and so on, up to 3600."""
    return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE) if failures > 0 else 0.0


class Schedule:
    """A time per key, kept in memory. A key that is not in it is due.

    A schedule only saves calls: each process has its own, and with more than `capacity` keys the oldest is
    removed, and so is due again. Times are seconds since the epoch.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._due: dict[str, tuple[float, int]] = {}

    def is_due(self, key: str, now: float) -> bool:
        """Return whether the time of a key has come."""
        return now >= self._due.get(key, (0.0, 0))[0]

    def set(self, key: str, at: float) -> None:
        """Make a key due at a time."""
        self._put(key, at, 0)

    def back_off(self, key: str, now: float) -> None:
        """Make a key due after a pause that doubles with each call, up to an hour."""
        failures = self._due.get(key, (0.0, 0))[1] + 1
        self._put(key, now + pause_after(failures), failures)

    def remove(self, key: str) -> None:
        """Remove a key, so that it is due."""
        self._due.pop(key, None)

    def _put(self, key: str, at: float, failures: int) -> None:
        with self._lock:
            self._due.pop(key, None)
            while len(self._due) >= self._capacity:
                del self._due[next(iter(self._due))]
            self._due[key] = (at, failures)
