"""A clock that tests control."""

from tests.builders import NOON


class FakeClock:
    """A clock that tests control."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
