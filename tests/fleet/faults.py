"""Faults of node stacks: every way in which a launch, a node or a deletion can fail."""

import random
from collections.abc import Sequence

from tests.fakes import Creation, Deletion, Fate

FAULTS: Sequence[Fate] = (
    Fate(creation=Creation.FAILS),
    Fate(creation=Creation.FAILS, fails_at="LoadBalancer", reason="You have reached the limit of 50."),
    Fate(creation=Creation.ROLLBACK_FAILS),
    Fate(creation=Creation.NEVER_STABLE),
    Fate(creation=Creation.NEVER_STABLE, breaker=None),
    Fate(creation=Creation.HANGS),
    Fate(slowness=12.0),  # complete, but long after the deadline
    Fate(answers=False),
    Fate(silent=(900.0, 1500.0)),
    Fate(silent=(900.0, 9000.0)),
    Fate(dies_after=1200.0),
    Fate(deletion=Deletion.FAILS),
    Fate(deletion=Deletion.FAILS, failing_deletions=3),
    Fate(deletion=Deletion.NEEDS_RETAIN),
    Fate(deletion=Deletion.NEEDS_FORCE),
    Fate(creation=Creation.FAILS, deletion=Deletion.NEEDS_RETAIN),
)
"""Faults that the service can recover from."""

UNDELETABLE: Sequence[Fate] = (Fate(deletion=Deletion.NEVER), Fate(deletion=Deletion.HANGS))
"""Stacks that no call to AWS deletes. The service launches the next generation, and reports the stack."""


class Faults:
    """Draws the fate of each new stack.

    `failing` is the share of stacks with a fault, `undeletable` the share of those that can't be deleted.
    """

    def __init__(self, failing: float, rng: random.Random, undeletable: float = 0.0) -> None:
        self._failing = failing
        self._undeletable = undeletable
        self._rng = rng
        self.drawn = 0

    def __call__(self) -> Fate:
        """Return the fate of the next stack."""
        number = self._rng.random()
        if number >= self._failing:
            return Fate(slowness=self._rng.uniform(0.7, 1.5))
        self.drawn += 1
        return self._rng.choice(UNDELETABLE if number < self._failing * self._undeletable else FAULTS)
