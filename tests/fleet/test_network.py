"""Calls to AWS take their time, are counted, and are one of so many a second for all callers."""

import random

import pytest

from tests.builders import NOON
from tests.fakes import FakeClock
from tests.fleet.network import ATTEMPTS, LATENCY, Meter, Network
from tests.fleet.stage import Stage


@pytest.fixture
def stage():
    return Stage(FakeClock())


@pytest.fixture
def meter(stage):
    return Meter(stage.clock, until=NOON + 1000.0)


def a_network(stage: Stage, meter: Meter, rate: float, burst: float) -> Network:
    return Network("cloudformation", {"look": (rate, burst)}, stage, meter, random.Random(0))


def test_a_call_takes_its_time_and_is_counted(stage, meter):
    """What is not limited goes through."""
    refused = a_network(stage, meter, 1.0, 1.0)("another")

    assert refused is False
    assert meter.aws == {"cloudformation.another": 1}
    assert LATENCY[0] <= stage.clock() - NOON <= LATENCY[1]


def test_a_refused_call_is_sent_again_after_a_pause(stage, meter):
    """All that the caller notices is that it took longer."""
    network = a_network(stage, meter, 1.0, 1.0)

    assert [network("look"), network("look")] == [False, False]
    assert meter.throttled["cloudformation.look"] >= 1
    assert meter.aws["cloudformation.look"] == 2 + meter.throttled["cloudformation.look"]


def test_a_call_that_is_always_refused_fails_in_the_end(stage, meter):
    """As many attempts as the client makes, and no more."""
    refused = a_network(stage, meter, 0.0, 0.0)("look")

    assert refused is True
    assert meter.aws["cloudformation.look"] == meter.throttled["cloudformation.look"] == ATTEMPTS


def test_the_highest_rate_is_that_of_the_fullest_ten_seconds(meter):
    """Two calls in one second are 0.2 a second, wherever they fall."""
    for at in (3.0, 3.5, 30.0, 38.9, 39.1):
        meter.clock.now = NOON + at
        meter.passed("nodes.get")

    assert meter.peak("tables") == 0.3
    assert meter.peak("bucket") == 0.0


def test_nothing_is_counted_when_the_day_is_over(meter):
    """What the evening costs is not the day's."""
    meter.clock.now = NOON + 1000.0
    meter.passed("nodes.get")
    meter.sent("ecs", "list_tasks", refused=False)

    assert not meter.ports
    assert not meter.aws
