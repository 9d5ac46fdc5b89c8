"""Time under the test's control."""

from tests.builders import NOON


class FakeClock:
    """A clock under the test's control."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
