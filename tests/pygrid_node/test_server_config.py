"""The rules of a model's training."""

import pytest

from pygrid_node.server_config import ServerConfig


def test_whole_number_may_be_a_float():
    """JavaScript has no integers."""
    config = ServerConfig.parse({"max_diffs": 3.0, "num_cycles": 2, "cycle_length": 600})

    assert (config.max_diffs, config.requires_speed_test) == (3, False)


LIMITS = ["min_workers", "max_workers", "min_diffs", "max_diffs"]


@pytest.mark.parametrize(
    ("limits", "wanted", "needed"),
    [
        ((1, 5, None, 3), 3, 1),  # as recorded
        ((5, 5, None, 1), 1, 1),  # artificienlib: every diff ends a cycle, whatever `min_workers` is
        ((4, 5, None, 5), 5, 4),
        ((4, 5, 2, 5), 5, 2),
        ((4, 5, 0, 5), 5, 1),
        ((1, 5, None, 9), 5, 1),  # no worker is left for a sixth
        ((6, 5, None, None), 5, 5),  # min = max
        ((9, 5, None, 1), 1, 1),  # artificienlib hides an error, and asks for another name
        ((None, None, None, 3), 3, 1),
        ((2, 4, None, None), 4, 2),
        ((None, None, None, None), 2**31 - 1, 1),  # ends by time only
    ],
)
def test_limits_determine_how_many_diffs_a_cycle_wants_and_needs(limits, wanted, needed):
    """`wanted` diffs end a cycle at once, `needed` diffs when its time is over."""
    given = {"num_cycles": 1, "cycle_length": 1} | dict(zip(LIMITS, limits, strict=True))
    config = ServerConfig.parse(given)

    assert (config.wanted, config.needed, config.max_workers) == (wanted, needed, limits[1])


def test_plan_for_all_diffs_is_never_run_with_fewer():
    """It has inputs for `max_diffs` diffs, so time alone ends no cycle."""
    given = {"num_cycles": 1, "cycle_length": 1, "max_diffs": 3}
    config = ServerConfig.parse(given).with_all_diffs()

    assert (config.wanted, config.needed, config.diffs_at_once) == (3, 3, 3)
    assert ServerConfig.parse(given | {"iterative_plan": True}).diffs_at_once is None
