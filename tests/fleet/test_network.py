"""Calls to AWS take time, are counted, and share a rate limit."""

import random

import pytest

from tests.builders import NOON
from tests.fakes import FakeClock
from tests.fleet.network import ATTEMPTS, LATENCY, Meter, Network
from tests.fleet.scheduler import Scheduler


@pytest.fixture
def scheduler():
    return Scheduler(FakeClock())


@pytest.fixture
def meter(scheduler):
    return Meter(scheduler.clock, until=NOON + 1000.0)


def a_network(scheduler: Scheduler, meter: Meter, rate: float, burst: float) -> Network:
    return Network("cloudformation", {"look": (rate, burst)}, scheduler, meter, random.Random(0))


def test_call_takes_time_and_is_counted(scheduler, meter):
    """An operation without a limit is not throttled."""
    refused = a_network(scheduler, meter, 1.0, 1.0)("another")

    assert refused is False
    assert meter.aws == {"cloudformation.another": 1}
    assert LATENCY[0] <= scheduler.clock() - NOON <= LATENCY[1]


def test_throttled_call_is_repeated(scheduler, meter):
    """The caller only notices that it took longer."""
    network = a_network(scheduler, meter, 1.0, 1.0)

    assert [network("look"), network("look")] == [False, False]
    assert meter.throttled["cloudformation.look"] >= 1
    assert meter.aws["cloudformation.look"] == 2 + meter.throttled["cloudformation.look"]


def test_call_that_is_always_throttled_fails(scheduler, meter):
    """After as many attempts as the client makes."""
    refused = a_network(scheduler, meter, 0.0, 0.0)("look")

    assert refused is True
    assert meter.aws["cloudformation.look"] == meter.throttled["cloudformation.look"] == ATTEMPTS


def test_peak_is_the_highest_rate_of_any_ten_seconds(meter):
    """Three calls within ten seconds are 0.3 per second."""
    for at in (3.0, 3.5, 30.0, 38.9, 39.1):
        meter.clock.now = NOON + at
        meter.passed("nodes.get")

    assert meter.peak("tables") == 0.3
    assert meter.peak("bucket") == 0.0


def test_calls_after_the_day_are_not_counted(meter):
    """Figures are those of the day alone."""
    meter.clock.now = NOON + 1000.0
    meter.passed("nodes.get")
    meter.sent("ecs", "list_tasks", refused=False)

    assert not meter.ports
    assert not meter.aws
