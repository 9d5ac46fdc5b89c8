"""What a node's newest checkpoint tells of a model whose progress calls got lost."""

from collections.abc import Iterable, Sequence

from orchestration.domain.cycle import COMPLETE, Progress
from orchestration.domain.entities import Model

MOST_CYCLES = 1_000_000
MOST_TRUSTED = 50
"""Of more than 100 cycles the original node's words stay the same for some, and these are not counted."""

ENOUGH_WORDS = 2
"""A single word may be counted as the wrong cycle, if one before it got lost; two such don't fit together."""


def lengths(words: Iterable[tuple[int, int]]) -> range:
    """Return how many cycles a model may have, from a node's words: (cycle, per cent) each.

    The original node says `floor(100 * cycle / cycles)`. Empty where the words contradict each other.
    """
    least, most = 1, MOST_CYCLES
    for cycle, percent in words:
        least = max(least, 100 * cycle // (percent + 1) + 1)
        if percent:
            most = min(most, 100 * cycle // percent)
    return range(least, most + 1)


def progress_from(model: Model, checkpoint: int) -> Progress | None:
    """Return the word that got lost; None if there is none.

    Checkpoint 1 is the upload, `n + 1` what the n-th cycle made. The percentage is the least that fits what
    the node said before, so that no model is called complete that isn't.
    """
    done = checkpoint - 1
    if done <= model.tally.cycle:
        return None
    words, enough = _trusted([(cycle.cycle, cycle.percent_complete) for cycle in model.history])
    known = lengths(words) if len(words) >= enough else range(0)
    percent = model.percent_complete
    if known and done <= known[-1] <= MOST_TRUSTED:
        percent = max(percent, min(100 * done // known[-1], COMPLETE))
    return Progress(percent, done)


def _trusted(words: Sequence[tuple[int, int]]) -> tuple[Sequence[tuple[int, int]], int]:
    """Return the words whose cycle is surely theirs, and how many of them it takes.

    A cycle that was found closed without a word kept the percentage before it. What came before that may be
    counted wrong, what came after it is not.
    """
    before = [0, *(percent for _, percent in words)]
    repeated = [place for place, (_, percent) in enumerate(words) if percent == before[place]]
    return (words[repeated[-1] + 1 :], 1) if repeated else (words, ENOUGH_WORDS)
