"""When a cycle ends, and who gets a place in it: decisions, without a clock and without a database."""

import math
from collections.abc import Sequence

from pygrid_node.entities import Cycle, Place

# What a worker is told to wait when nobody knows how long: the cycle's time is over, and diffs are missing.
_UNKNOWN_WAIT = 30


def is_due(cycle: Cycle, now: float) -> bool:
    """Whether a cycle is to be averaged: it has all its diffs, or its time is over and it has enough."""
    return not cycle.is_closed and (cycle.is_full or (now >= cycle.ends_at and cycle.counted >= cycle.needed))


def may_enter(cycle: Cycle, own: Sequence[Place], reuse_after: int, now: float) -> bool:
    """Whether a worker may have a place in a cycle, if one is free.

    `own` are its places in all cycles of the process. In this cycle it may have none but one that has lapsed
    unused; and the last cycle that counted its diff is `reuse_after` cycles ago.
    """
    for place in own:
        if place.number == cycle.number and (place.is_counted or place.lapses_at > now):
            return False
        if place.is_counted and place.number + reuse_after > cycle.number:
            return False
    return True


def wait(cycle: Cycle, next_lapse: float | None, now: float) -> int:
    """Whole seconds until it makes sense to ask again: until the cycle ends, or a place lapses before."""
    ahead = [moment for moment in (cycle.ends_at, next_lapse) if moment is not None and moment > now]
    return math.ceil(min(ahead) - now) if ahead else _UNKNOWN_WAIT


def pause(next_end: float | None, now: float) -> float | None:
    """Seconds until the next cycle's time is over; None if there is none to wait for."""
    return None if next_end is None else max(0.0, next_end - now)
