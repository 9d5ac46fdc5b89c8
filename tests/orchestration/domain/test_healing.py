"""What a checkpoint's number tells of a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.cycle import Progress
from orchestration.domain.healing import lengths, progress_from
from tests.builders import a_closed_cycle, a_model, a_tally


def a_silent_model(*words, percent=None):
    """A model whose node has said these words, (cycle, per cent) each."""
    history = tuple(a_closed_cycle(cycle=cycle, percent_complete=said) for cycle, said in words)
    closed, last = words[-1] if words else (0, 0)
    return a_model(
        history=history, tally=a_tally(cycle=closed), percent_complete=last if percent is None else percent
    )


@given(cycles=st.integers(1, 2000), said=st.integers(1, 40))
def test_the_true_length_is_always_among_those_that_fit(cycles, said):
    """Whatever rounding hides."""
    words = [(cycle, 100 * cycle // cycles) for cycle in range(1, min(said, cycles) + 1)]

    assert cycles in lengths(words)


def test_words_of_which_some_were_counted_wrong_do_not_fit_together():
    """The first call got lost: 20 % was counted as cycle 1, 30 % as cycle 2."""
    assert not lengths([(1, 20), (2, 30)])


@pytest.mark.parametrize(
    ("model", "checkpoint", "progress"),
    [
        (a_silent_model((1, 10), (2, 20)), 3, None),
        (a_silent_model((1, 10), (2, 20)), 1, None),
        (a_silent_model((1, 10), (2, 20)), 4, Progress(30, 3)),
        (a_silent_model((1, 10), (2, 20)), 11, Progress(100, 10)),
        (a_silent_model((1, 33), (2, 66)), 4, Progress(100, 3)),
        (a_silent_model(), 4, Progress(0, 3)),
        (a_silent_model((1, 50)), 3, Progress(50, 2)),
        (a_silent_model((1, 20), (2, 30)), 5, Progress(30, 4)),
        (a_silent_model((1, 10), (2, 20)), 50, Progress(20, 49)),
        (a_silent_model((1, 50), (2, 50), (3, 75)), 5, Progress(100, 4)),
        (a_silent_model((1, 0), (2, 50), (3, 75)), 5, Progress(100, 4)),
        (a_silent_model((1, 50), (2, 50)), 5, Progress(50, 4)),
        (a_silent_model((1, 1), (2, 2)), 101, Progress(2, 100)),
    ],
    ids=[
        "nothing new",
        "only the upload",
        "one lost word",
        "the last word lost",
        "of three",
        "no word ever",
        "a single word proves nothing",
        "words that contradict each other",
        "more cycles than there can be",
        "healed once, and a word since then",
        "healed at the very beginning",
        "healed, and no word since then",
        "perhaps more cycles than percentages",
    ],
)
def test_the_lost_word_is_the_least_that_fits(model, checkpoint, progress):
    """No model is called complete that may not be."""
    assert progress_from(model, checkpoint) == progress


@given(cycles=st.integers(1, 300), heard=st.integers(2, 300), checkpoint=st.integers(1, 301))
def test_a_model_is_never_called_complete_too_early(cycles, heard, checkpoint):
    """Where no word before the silence got lost."""
    heard = min(heard, cycles)
    words = [(cycle, 100 * cycle // cycles) for cycle in range(1, heard + 1)]
    checkpoint = min(checkpoint, cycles + 1)
    progress = progress_from(a_silent_model(*words), checkpoint)

    if progress is not None:
        assert progress.percent_complete <= 100 * (checkpoint - 1) // cycles
