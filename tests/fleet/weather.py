"""What befalls the stacks of a fleet: mostly nothing, and at times each of the things that can."""

import random
from collections.abc import Sequence

from tests.fakes import Creation, Deletion, Fate

TROUBLES: Sequence[Fate] = (
    Fate(creation=Creation.FAILS),
    Fate(creation=Creation.FAILS, fails_at="LoadBalancer", reason="You have reached the limit of 50."),
    Fate(creation=Creation.ROLLBACK_FAILS),
    Fate(creation=Creation.NEVER_STABLE),
    Fate(creation=Creation.NEVER_STABLE, breaker=None),
    Fate(creation=Creation.HANGS),
    Fate(slowness=12.0),  # it comes up, but long after its deadline
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
"""Those that end: whatever the service does right is rewarded."""

HOPELESS: Sequence[Fate] = (Fate(deletion=Deletion.NEVER), Fate(deletion=Deletion.HANGS))
"""Stacks that no call to AWS takes away; all that can be done is to begin beside them, and to tell."""


class Weather:
    """Draws the fate of each new stack; `failing` is the share that comes to harm."""

    def __init__(self, failing: float, rng: random.Random, hopeless: float = 0.0) -> None:
        self._failing = failing
        self._hopeless = hopeless
        self._rng = rng
        self.troubled = 0

    def __call__(self) -> Fate:
        """Return what befalls the next stack."""
        luck = self._rng.random()
        if luck >= self._failing:
            return Fate(slowness=self._rng.uniform(0.7, 1.5))
        self.troubled += 1
        return self._rng.choice(HOPELESS if luck < self._failing * self._hopeless else TROUBLES)
