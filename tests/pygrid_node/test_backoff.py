"""Pauses after failures."""

import pytest

from pygrid_node.backoff import Backoff


@pytest.mark.parametrize(("failures", "full"), [(1, 1), (2, 2), (5, 16), (6, 30), (10_000, 30)])
def test_pauses_double_up_to_the_longest(failures, full):
    """The random part shortens a pause by at most a half."""
    backoff = Backoff(first=1, longest=30)

    assert all(full / 2 <= backoff.after(failures) <= full for _ in range(20))
