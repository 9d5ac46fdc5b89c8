"""Sizes and capacity providers of nodes."""

import pytest

from orchestration.provisioning.node_shape import MEMORIES, ON_DEMAND, SIZES, SPOT, NodeShape
from tests.orchestration.stacks.reading import NODE


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("cpu", SIZES)
def test_template_allows_every_shape(cpu, spot):
    """The smallest and the largest memory of each CPU, on both capacity providers."""
    for memory in (SIZES[cpu][0], SIZES[cpu][-1]):
        for name, value in NodeShape("node:1", cpu, memory, spot=spot).parameters().items():
            assert value in NODE["Parameters"][name].get("AllowedValues", [value])


@pytest.mark.parametrize(
    ("cpu", "first", "last", "many"),
    [
        (256, 512, 2048, 3),
        (512, 1024, 4096, 4),
        (1024, 2048, 8192, 7),
        (2048, 4096, 16384, 13),
        (4096, 8192, 30720, 23),
    ],
)
def test_sizes_are_those_of_fargate(cpu, first, last, many):
    """As documented: all whole GiB between a minimum and a maximum, except the smallest."""
    assert (SIZES[cpu][0], SIZES[cpu][-1], len(SIZES[cpu])) == (first, last, many)
    assert all(memory % 1024 == 0 for memory in SIZES[cpu] if memory > 512)


def test_memories_are_unique_and_sorted():
    """They are the allowed values of a template's parameter."""
    assert list(MEMORIES) == sorted({memory for memories in SIZES.values() for memory in memories})


def test_default_is_half_a_cpu_and_2_gib_on_demand():
    """The documented prices assume this shape."""
    assert NodeShape("node:1").parameters() == {
        "NodeImage": "node:1",
        "NodeCpu": "512",
        "NodeMemory": "2048",
        "NodeReadOnly": "true",
        "NodeMinReports": "10",
        "CapacityProvider": "FARGATE",
    }


def test_only_the_first_attempt_uses_spot():
    """A launch may have failed for lack of Spot capacity."""
    shape = NodeShape("node:1", spot=True)

    assert [shape.parameters(attempt)["CapacityProvider"] for attempt in (1, 2, 3)] == [
        SPOT,
        *[ON_DEMAND] * 2,
    ]
