"""The pause after a failure: the same for every task of the node that must try again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait: doubled with each failure up to `longest`, then shortened by up to a half."""

    first: float = 0.5
    longest: float = 30.0

    def after(self, failures: int) -> float:
        """Return the pause after this many failures in a row."""
        full: float = min(self.longest, self.first * 2 ** min(failures - 1, 16))
        return full * random.uniform(0.5, 1)  # noqa: S311 - spreads attempts, protects nothing


BACKOFF = Backoff()
