"""The budget: what fits is granted, what does not waits, and nothing is lost when a client gives up."""

import asyncio

import pytest

from pygrid_node.errors import NodeBusy
from pygrid_node.transport.budget import Budget


def run(coroutine):
    return asyncio.run(coroutine)


async def settle():
    """Let all tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_request_waits_until_it_fits():
    """A smaller one that fits does not wait for it."""

    async def story():
        budget = Budget(10, patience=20)
        await budget.acquire(6)
        large, small = (asyncio.create_task(budget.acquire(amount)) for amount in (8, 4))
        await settle()
        before = large.done(), small.done(), budget.used
        budget.release(6)
        await settle()
        between = large.done(), budget.used
        budget.release(4)
        await large
        return before, between, budget.used

    assert run(story()) == ((False, True, 10), (False, 4), 8)


def test_request_that_waits_too_long_is_refused():
    """It leaves the queue, and what others release later is not kept for it."""

    async def story():
        budget = Budget(10, patience=0.01)
        await budget.acquire(10)
        with pytest.raises(NodeBusy):
            await budget.acquire(1)
        budget.release(10)
        return budget.used

    assert run(story()) == 0


@pytest.mark.parametrize("is_granted_first", [False, True])
def test_request_of_a_client_that_has_gone_holds_nothing(is_granted_first):
    """Even if it is granted in the moment in which it is cancelled."""

    async def story():
        budget = Budget(10, patience=20)
        await budget.acquire(10)
        waiting = asyncio.create_task(budget.acquire(10))
        await settle()
        if is_granted_first:
            budget.release(10)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not is_granted_first:
            budget.release(10)
        return budget.used

    assert run(story()) == 0


def test_hold_grows_and_is_released_whole():
    """Growing to less than is held changes nothing."""

    async def story():
        budget = Budget(10, patience=20)
        used = []
        with budget.hold() as hold:
            for total in (3, 7, 5):
                await hold.grow(total)
                used.append(budget.used)
        return [*used, budget.used]

    assert run(story()) == [3, 7, 7, 0]


def test_one_is_refused_when_all_who_hold_bytes_wait_for_more():
    """The one who asked last; the others go on when it has released what it held."""

    async def story():
        budget = Budget(10, patience=20)
        holds = [budget.hold() for _ in range(3)]
        for hold in holds:
            await hold.grow(3)
        waiting = [asyncio.create_task(hold.grow(6)) for hold in holds]
        outside = asyncio.create_task(budget.acquire(5))  # waits, but holds nothing
        await settle()
        refused = [task.done() for task in waiting], waiting[2].exception()
        holds[2].release()
        await waiting[0]
        holds[0].release()
        await waiting[1]
        holds[1].release()
        await outside
        return refused, budget.used

    (done, error), used = run(story())

    assert (done, used) == ([False, False, True], 5)
    assert isinstance(error, NodeBusy)


def test_one_is_refused_when_the_last_who_did_not_wait_has_gone():
    """It held too little for the others."""

    async def story():
        budget = Budget(10, patience=20)
        first, second, small = (budget.hold() for _ in range(3))
        for hold, size in ((first, 4), (second, 4), (small, 1)):
            await hold.grow(size)
        waiting = [asyncio.create_task(hold.grow(9)) for hold in (first, second)]
        await settle()
        before = [task.done() for task in waiting]
        small.release()
        await settle()
        return before, [task.done() for task in waiting]

    assert run(story()) == ([False, False], [False, True])
